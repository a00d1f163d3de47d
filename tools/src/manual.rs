//! Manual pages and shell completions of all tools, made from their command lines: what `--help` says, and nothing else.

use std::io;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use crate::exit::Failure;
use crate::files::write_whole;
use crate::{convert, ctl, run, sim};

/// Where a shell's completion of a command is looked for, below `/usr/share`.
fn completion(shell: Shell, name: &str) -> Option<String> {
    match shell {
        Shell::Bash => Some(format!("bash-completion/completions/{name}")),
        Shell::Fish => Some(format!("fish/vendor_completions.d/{name}.fish")),
        Shell::Zsh => Some(format!("zsh/vendor-completions/_{name}")),
        _ => None,
    }
}

/// The command lines of this crate.
pub fn commands() -> Vec<Command> {
    vec![convert::Args::command(), ctl::Args::command(), run::Args::command(), sim::Args::command()]
}

/// Writes pages (`man/man1`) and completions of these commands below `share`, which stands for `/usr/share`.
///
/// # Errors
/// A folder or file that cannot be made.
pub fn write(share: &Path, commands: Vec<Command>) -> Result<usize, Failure> {
    let mut written = 0;
    for command in commands {
        let name = command.get_name().to_string();
        for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
            let Some(path) = completion(shell, &name).map(|p| share.join(p)) else { continue };
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut command.clone(), &name, &mut text);
            put(&path, &text)?;
            written += 1;
        }
        let mut command = command.disable_help_subcommand(true);
        command.build();
        written += pages(&share.join("man/man1"), command)?;
    }
    Ok(written)
}

/// A page for a command that was built and one for each of its subcommands, named as git's are: `akida-ctl-bind`.
fn pages(folder: &Path, command: Command) -> Result<usize, Failure> {
    let mut written = 1;
    for subcommand in command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
        written += pages(folder, subcommand.clone())?;
    }
    let source = concat!("akida-tools ", env!("CARGO_PKG_VERSION"));
    let page = clap_mangen::Man::new(command).source(source).manual("Akida boards");
    let mut text = Vec::new();
    let path = folder.join(page.get_filename());
    page.render(&mut text).map_err(|error| Failure::output(&path, &error))?;
    put(&path, &text)?;
    Ok(written)
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    made.map_err(|error: io::Error| Failure::output(path, &error))?;
    write_whole(path, |file| file.write_all(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn files(folder: &Path, found: &mut BTreeSet<String>, root: &Path) {
        for entry in std::fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path()) {
            if entry.is_dir() {
                files(&entry, found, root);
            } else {
                found.insert(entry.strip_prefix(root).expect("below").to_string_lossy().into_owned());
            }
        }
    }

    /// Every command and every visible subcommand has its page, which names each of its options and values.
    fn check(folder: &Path, command: &Command, name: &str) -> usize {
        let path = folder.join(format!("{name}.1"));
        let page = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let plain = page.replace("\\-", "-").replace("\\fB", "").replace("\\fR", "").replace("\\fI", "");
        assert!(
            page.contains(".TH ")
                && page.contains("\"akida-tools ")
                && page.contains(".SH NAME")
                && page.contains(".SH SYNOPSIS"),
            "{name}"
        );
        for argument in command.get_arguments().filter(|a| !a.is_hide_set()) {
            if let Some(long) = argument.get_long() {
                assert!(plain.contains(&format!("--{long}")), "{name}: --{long}");
            }
        }
        let visible = command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help");
        1 + visible.map(|c| check(folder, c, &format!("{name}-{}", c.get_name()))).sum::<usize>()
    }

    #[test]
    fn every_command_has_its_page_and_its_completions() {
        let share = tempfile::tempdir().expect("a folder");
        let written = write(share.path(), commands()).expect("written");
        let mut found = BTreeSet::new();
        files(share.path(), &mut found, share.path());
        assert_eq!(found.len(), written);
        let mut pages = 0;
        for mut command in commands() {
            let name = command.get_name().to_string();
            command.build();
            pages += check(&share.path().join("man/man1"), &command, &name);
            for path in [
                format!("bash-completion/completions/{name}"),
                format!("fish/vendor_completions.d/{name}.fish"),
                format!("zsh/vendor-completions/_{name}"),
            ] {
                assert!(found.contains(&path), "{path}");
            }
        }
        assert_eq!(pages + 3 * commands().len(), written, "nothing else is written");
        assert!(!found.iter().any(|f| f.contains("owns-group")), "a hidden command has no page");
        // What a shell makes of it.
        for name in ["akida-ctl", "akida-run"] {
            let script = share.path().join("bash-completion/completions").join(name);
            let checked = std::process::Command::new("bash").arg("-n").arg(&script).output();
            match checked {
                Ok(o) => assert!(o.status.success(), "{name}: {}", String::from_utf8_lossy(&o.stderr)),
                Err(e) => println!("SKIP bash -n: {e}"),
            }
        }
    }
}
