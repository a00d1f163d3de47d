//! Progress of long work on standard error: a bar on a terminal, nothing elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over `len` steps, or a spinner when `len` is 0. Hidden when `quiet` or when standard error is no terminal.
pub fn progress(len: u64, what: &str, quiet: bool) -> ProgressBar {
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(10) };
    let bar = ProgressBar::with_draw_target(if len > 0 { Some(len) } else { None }, target);
    let template =
        if len > 0 { "{msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}" } else { "{spinner} {msg} {elapsed}" };
    // The templates are constants; a test renders both.
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(what.to_string());
    if len == 0 && !bar.is_hidden() {
        bar.enable_steady_tick(Duration::from_millis(120));
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_valid_and_quiet_is_hidden() {
        for template in ["{msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}", "{spinner} {msg} {elapsed}"] {
            ProgressStyle::with_template(template).unwrap();
        }
        assert!(progress(10, "x", true).is_hidden());
        assert!(progress(0, "x", true).is_hidden());
    }
}
