//! What tests of traces read.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

/// A trace that can be looked at while it is written.
#[derive(Clone, Default)]
pub struct Text(pub Arc<Mutex<Vec<u8>>>);

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
