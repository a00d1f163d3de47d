//! Writing.

use std::io;
use std::path::Path;

use ndarray_npy::{NpzWriter, WriteNpyExt};

use super::Array;
use crate::exit::{Exit, Failure};
use crate::files::write_whole;

macro_rules! each {
    ($array:expr, $a:ident => $body:expr) => {
        match $array {
            Array::F32($a) => $body,
            Array::F64($a) => $body,
            Array::U8($a) => $body,
            Array::I8($a) => $body,
            Array::I32($a) => $body,
            Array::I64($a) => $body,
        }
    };
}

/// Writes a compressed `.npz` file, whole or not at all.
pub fn write_npz<'a>(path: &Path, arrays: impl IntoIterator<Item = (String, &'a Array)>) -> Result<(), Failure> {
    write_whole(path, |file| {
        let mut npz = NpzWriter::new_compressed(file);
        for (name, array) in arrays {
            each!(array, a => npz.add_array(name, a)).map_err(into_io)?;
        }
        npz.finish().map_err(into_io)?.flush()
    })
}

/// The bytes of a `.npy` file.
pub fn npy_bytes(array: &Array) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    each!(array, a => a.write_npy(&mut bytes)).map_err(|e| {
        Failure::because(Exit::Internal, "cannot encode an array", &e, "please report this with the command line")
    })?;
    Ok(bytes)
}

/// Digs the operating system's error out, so that "disk full" stays "disk full".
fn into_io(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(e) = next {
        if let Some(code) = e.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return io::Error::from_raw_os_error(code);
        }
        next = e.source();
    }
    io::Error::other(error)
}
