//! Driver, runtime and simulated boards together: jobs, passes, limits, faults, what is refused.

mod accesses;
mod board_jobs;
mod boards;
mod device;
mod estimates;
mod jobs;
mod limits;
mod limits_boards;
mod mapping;
mod passes;
mod passes_late;
mod program_files;
mod refusals;
mod session;
mod sparse;
mod streams;
mod text;
mod trace;
mod udev;
