//! Multiply-accumulates per second of every kernel set on this machine, over typical layers.

use std::hint::black_box;
use std::time::{Duration, Instant};

use akida_kernels::*;

fn spec(kind: Kind, input: [usize; 3], kernel: usize, stride: usize, filters: usize) -> LayerSpec {
    let conv = [input[0].div_ceil(stride), input[1].div_ceil(stride)];
    LayerSpec {
        kind,
        geometry: Geometry { input, kernel: [kernel; 2], stride: [stride; 2], pad: [kernel / 2; 2], conv },
        input_bits: 8,
        input_signed: true,
        pad_value: Vec::new(),
        pool: Pool::None,
        tile: Tile { rows: 0..conv[0], columns: 0..conv[1], filters: 0..filters },
        finish: Finish {
            arithmetic: Arithmetic::Chip { accumulator_bits: 28 },
            bias: vec![1; filters],
            activation: Activation::Relu,
            scale: Some(Scale { m: vec![100; filters], k: vec![16; filters] }),
            output_bits: 8,
            output_signed: true,
        },
    }
}

fn main() {
    println!("{:<34} {:<18} {:>9} {:>9}", "layer", "kernels", "us/run", "GMAC/s");
    for (name, kind, input, kernel, stride, filters) in [
        ("conv 3x3x1x32 on 28x28", Kind::Standard, [28, 28, 1], 3, 1, 32),
        ("conv 3x3x3x32 /2 on 224x224", Kind::Standard, [224, 224, 3], 3, 2, 32),
        ("conv 3x3x64x64 on 28x28", Kind::Standard, [28, 28, 64], 3, 1, 64),
        ("conv 1x1x256x256 on 14x14", Kind::Standard, [14, 14, 256], 1, 1, 256),
        ("depthwise 3x3x256 on 14x14", Kind::Depthwise, [14, 14, 256], 3, 1, 256),
        ("dense 1024x1000", Kind::Standard, [1, 1, 1024], 1, 1, 1000),
    ] {
        let spec = spec(kind, input, kernel, stride, filters);
        let row = kernel * kernel * if kind == Kind::Standard { input[2] } else { 1 };
        let weights: Vec<i8> = (0..filters * row).map(|i| (i * 7 % 255) as u8 as i8).collect();
        let x: Vec<u8> = (0..input.iter().product()).map(|i: usize| (i * 13) as u8).collect();
        let macs = spec.tile.len() * row;
        let mut kernel_sets = vec![scalar()];
        if best().name() != scalar().name() {
            kernel_sets.push(best());
        }
        for kernels in kernel_sets {
            let weights = Weights { main: &weights, pointwise: &[] };
            let layer = Layer::prepare(spec.clone(), weights, kernels).expect("a layer of the table");
            let view = View::whole(&x, input).expect("its input");
            let mut out = vec![0; spec.tile.len()];
            let mut scratch = Scratch::default();
            let (start, mut runs) = (Instant::now(), 0u32);
            while start.elapsed() < Duration::from_millis(300) {
                layer.run(black_box(&view), &mut scratch, Output::Bytes(&mut out)).expect("a run");
                black_box(&out);
                runs += 1;
            }
            let seconds = start.elapsed().as_secs_f64() / f64::from(runs);
            println!("{name:<34} {:<18} {:>9.1} {:>9.2}", kernels.name(), seconds * 1e6, macs as f64 / seconds / 1e9);
        }
    }
}
