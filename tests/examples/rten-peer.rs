//! Times rten on an ONNX file, for tests/peers/onnxruntime: `rten-peer FILE SHAPE THREADS SECONDS`, the shape with the batch,
//! as `64,3,32,32`. Prints the microseconds of a call, median.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rten::{RunOptions, ThreadPool, Value};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [file, shape, threads, seconds] = args.as_slice() else {
        return Err("usage: rten-peer FILE SHAPE THREADS SECONDS".into());
    };
    let shape: Vec<usize> = shape.split(',').map(str::parse).collect::<Result<_, _>>()?;
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| (i * 37 % 251) as f32 / 251.0).collect();
    let input = Value::from_shape(shape, values)?;
    let model = rten::Model::load_file(file)?;
    let pool = Arc::new(ThreadPool::with_num_threads(threads.parse()?));
    let limit = Duration::from_secs_f64(seconds.parse()?);
    let mut times = Vec::new();
    // On the thread that rten computes on: handing each run over to another thread would be measured too.
    let run = |times: &mut Vec<f64>| -> Result<(), String> {
        let start = Instant::now();
        while times.len() < 2 || start.elapsed() < limit {
            let call = Instant::now();
            let options = RunOptions::default().with_thread_pool(Some(pool.clone()));
            black_box(model.run_one((&input).into(), Some(options)).map_err(|e| e.to_string())?);
            times.push(call.elapsed().as_secs_f64() * 1e6);
        }
        Ok(())
    };
    let mut result = Ok(());
    pool.run(|| result = run(&mut times));
    result?;
    times.remove(0);
    times.sort_by(f64::total_cmp);
    println!("{:.3}", times[times.len() / 2]);
    Ok(())
}
