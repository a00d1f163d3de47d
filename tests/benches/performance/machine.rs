//! What was measured on, as far as it explains the numbers: no names of hosts, users or paths.

use std::fs;
use std::process::Command;

/// Prints the facts.
pub fn print() {
    let cpu = fs::read_to_string("/proc/cpuinfo").ok();
    let cpu = cpu.as_deref().and_then(|text| text.lines().find_map(|line| line.strip_prefix("model name")));
    let cpu = cpu.map_or("unknown processor", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // Cargo tells a benchmark nothing of its compiler; this asks the one a build would use here.
    let rustc = Command::new("rustc").arg("--version").output().ok();
    let rustc = rustc.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let load = fs::read_to_string("/proc/loadavg").ok();
    let load = load.as_deref().and_then(|text| text.split(' ').next()).unwrap_or("unknown");
    println!("| | |\n|---|---|");
    println!("| processor | {cpu}, {cores} cores, {} |", std::env::consts::ARCH);
    println!("| kernels | {} |", akida_kernels::best().name());
    println!("| compiler | {} |", rustc.as_deref().unwrap_or("unknown"));
    println!("| load average at the start | {load} |");
}
