//! The command lines of all tools of this project, for manual pages and completions: this crate knows the others' and its own.

use clap::{Command, CommandFactory};

use crate::{config, load};

/// What has a manual page.
pub fn commands() -> Vec<Command> {
    let mut all = akida_tools::manual::commands();
    all.extend([config::Args::command(), load::Args::command()]);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_and_its_load_have_pages_and_completions_with_all_their_options() {
        let share = tempfile::tempdir().expect("a folder");
        akida_tools::manual::write(share.path(), commands()).expect("written");
        let names: Vec<String> = commands().iter().map(|c| c.get_name().to_string()).collect();
        assert_eq!(names, ["akida-convert", "akida-ctl", "akida-run", "akida-sim", "akida-serve", "akida-bench"]);
        let read =
            |path: String| std::fs::read_to_string(share.path().join(&path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        for command in commands().iter().filter(|c| matches!(c.get_name(), "akida-serve" | "akida-bench")) {
            let name = command.get_name();
            let page = read(format!("man/man1/{name}.1")).replace("\\-", "-");
            let bash = read(format!("bash-completion/completions/{name}"));
            let fish = read(format!("fish/vendor_completions.d/{name}.fish"));
            let zsh = read(format!("zsh/vendor-completions/_{name}"));
            let options: Vec<&str> = command.get_arguments().filter_map(|a| a.get_long()).collect();
            assert!(options.len() > 10, "{name}: {options:?}");
            for option in options {
                assert!(page.contains(&format!("--{option}")), "{name}.1: --{option}");
                assert!(bash.contains(&format!("--{option}")), "{name}, bash: --{option}");
                assert!(fish.contains(&format!("-l {option}")), "{name}, fish: {option}");
                assert!(zsh.contains(&format!("--{option}")), "{name}, zsh: --{option}");
            }
        }
    }
}
