//! A whole network on one thread: kernels, readable reference, and a float runtime as the peer.

use std::hint::black_box;

use akida_runtime::reference::{Reference, Rules};
use akida_runtime::session::HostNetwork;

use crate::digits::{self, BATCH, Float};
use crate::measure::{Effort, Time, in_turns};
use crate::table;

pub fn measure() {
    let float = Float::load();
    float.on_its_thread(|| beside(&float));
}

fn beside(float: &Float) {
    table::heading(
        "Network",
        "mnist_cnn, a digit at a time unless stated, one thread each, no board: the kernels on 8-bit integers; rten, a \
         float32 runtime, on the ONNX file the network was converted from; `runtime::reference`, which is written to be \
         read. The ratio is how many times longer than the kernels. Kernels and reference give the same integers, which \
         is checked before.",
    );
    let (model, pixels) = (digits::model(), digits::pixels());
    let floats = digits::floats();
    let mut host = HostNetwork::prepare(&model).expect("a valid model");
    let mut reference = Reference::new(&model, Rules::Chip);
    for digit in &pixels {
        let tensors = reference.run(digit).expect("a digit");
        for (output, values) in model.outputs.iter().zip(host.run(digit).expect("a digit")) {
            assert!(values.integers(model.tensor(output.tensor)) == tensors[output.tensor], "{}", output.name);
        }
    }
    let (one, many) = (Float::input(&floats, 1), Float::input(&floats, BATCH));
    let digit = &pixels[0];
    let mut times = in_turns(
        Effort::LONG,
        &mut [
            ("kernels", &mut || {
                black_box(host.run(black_box(digit)).expect("a digit"));
            }),
            ("float", &mut || {
                black_box(float.run(black_box(&one)));
            }),
            ("float batch", &mut || {
                black_box(float.run(black_box(&many)));
            }),
            ("reference", &mut || {
                black_box(reference.run(black_box(digit)).expect("a digit"));
            }),
        ],
    );
    times[2].median /= BATCH as f64;
    let macs: u64 = model.macs().iter().sum();
    let row = |name: &str, time: Time| {
        let rate = format!("{:.2}", macs as f64 / time.median / 1e9);
        vec![name.to_owned(), table::ratio(time, times[0]), table::time(time), rate]
    };
    let rows = [
        row("kernels", times[0]),
        row("rten, float32", times[1]),
        row(&format!("rten, float32, {BATCH} at once"), times[2]),
        row("reference", times[3]),
    ];
    table::table(&["arithmetic", "ratio", "time per digit", "GMAC/s"], &rows);
}
