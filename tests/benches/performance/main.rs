//! Speed, every number with its peer from the same run, as the tables of docs/performance.md.
//!
//! `tests/performance` runs all of it and writes that file; `cargo bench -p akida-tests -- kernels transfers` prints parts.

mod conversion;
mod digits;
mod driver;
mod kernels;
mod machine;
mod measure;
mod network;
mod opening;
mod table;
mod transfers;

/// The parts, by name.
const PARTS: [(&str, fn()); 6] = [
    ("kernels", kernels::measure),
    ("network", network::measure),
    ("driver", driver::measure),
    ("transfers", transfers::measure),
    ("opening", opening::measure),
    ("conversion", conversion::measure),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|a| a == "--bench") {
        // As `cargo test --all-targets` would: that this builds is all there is to test.
        println!("SKIP performance: measured by cargo bench only");
        return;
    }
    let wanted: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    if let Some(unknown) = wanted.iter().find(|w| PARTS.iter().all(|(name, _)| name != *w)) {
        let names = PARTS.map(|(name, _)| name).join(", ");
        eprintln!("no part is called {unknown:?}: there are {names}");
        std::process::exit(64);
    }
    machine::print();
    for (name, measure) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|w| *w == name) {
            eprintln!("measuring {name} ...");
            measure();
        }
    }
}
