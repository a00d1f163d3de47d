//! The files of udev/ say what they should, in a syntax that their readers understand. Where systemd's own checkers are
//! installed, they are asked too.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use akida_hal::regs::pci;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../udev")
}

fn lines(file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(folder().join(file)).expect("a file of udev/");
    text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).map(str::to_string).collect()
}

/// `KEY{attribute} operator "value"`.
#[derive(Debug)]
struct Term {
    key: String,
    operator: String,
    value: String,
}

/// Parses a line of rules as udev(7) describes it; anything else is an error.
fn rule(line: &str) -> Result<Vec<Term>, String> {
    let mut terms = Vec::new();
    let mut rest = line;
    loop {
        let quote = rest.find('"').ok_or_else(|| format!("no value in {rest:?}"))?;
        let (head, tail) = rest.split_at(quote);
        let end = tail[1..].find('"').ok_or_else(|| format!("no end of value in {tail:?}"))?;
        let operator_at = head.find(['=', '!', '+', '-', ':']).ok_or_else(|| format!("no operator in {head:?}"))?;
        let (key, operator) = head.split_at(operator_at);
        if !["==", "!=", "=", "+=", "-=", ":="].contains(&operator.trim()) {
            return Err(format!("operator {operator:?}"));
        }
        terms.push(Term { key: key.trim().into(), operator: operator.trim().into(), value: tail[1..=end].into() });
        rest = tail[end + 2..].trim_start();
        match rest.strip_prefix(',') {
            Some(more) => rest = more.trim_start(),
            None if rest.is_empty() => return Ok(terms),
            None => return Err(format!("{rest:?} after a value")),
        }
    }
}

fn rules(file: &str) -> Vec<Vec<Term>> {
    lines(file).iter().map(|l| rule(l).unwrap_or_else(|e| panic!("{file}: {e}: {l}"))).collect()
}

#[test]
fn rules_are_well_formed_and_open_nothing_to_everybody() {
    let mut granted = 0;
    for file in ["rules.d/70-akida.rules", "rules.d/71-akida-bind.rules"] {
        let rules = rules(file);
        let labels: BTreeSet<_> = rules.iter().flatten().filter(|t| t.key == "LABEL").map(|t| &t.value).collect();
        for rule in &rules {
            for term in rule {
                let name = term.key.split('{').next().expect("a key");
                let (matches, assigns) =
                    (["==", "!="].contains(&&*term.operator), term.operator == "=" || term.operator == "+=");
                match name {
                    "ACTION" | "SUBSYSTEM" | "KERNEL" | "ATTR" | "ATTRS" => assert!(matches, "{file}: {term:?}"),
                    "PROGRAM" | "GROUP" | "MODE" | "LABEL" | "GOTO" | "RUN" => assert!(assigns, "{file}: {term:?}"),
                    _ => panic!("{file}: unknown key {term:?}"),
                }
                match name {
                    "MODE" => assert_eq!(term.value, "0660", "{file}"),
                    "GROUP" => assert_eq!(term.value, "akida", "{file}"),
                    "GOTO" => assert!(labels.contains(&term.value), "{file}: {term:?}"),
                    "PROGRAM" | "RUN" => assert!(term.value.starts_with("/usr/bin/akida-ctl "), "{file}: {term:?}"),
                    _ => {}
                }
            }
            let has = |key: &str| rule.iter().any(|t| t.key == key);
            assert_eq!(has("MODE"), has("GROUP"), "{file}: a mode without its group, or the other way round");
            granted += usize::from(has("MODE"));
            // A node may be granted only after something has said that it is an Akida's.
            let vendor = format!("0x{:04x}", pci::VENDOR);
            let ours = rule.iter().any(|t| t.key.contains("vendor") && t.value == vendor)
                || has("PROGRAM")
                || rule.iter().any(|t| t.key == "KERNEL" && t.value.contains("akida"));
            assert!(!has("MODE") || ours, "{file}: grants too much: {rule:?}");
        }
    }
    assert_eq!(granted, 3);
}

#[test]
fn rules_know_the_boards_the_driver_knows() {
    let wanted = format!("0x{:04x}|0x{:04x}", pci::DEVICE_AKD1000, pci::DEVICE_AKD1500);
    let mut found = 0;
    for file in ["rules.d/70-akida.rules", "rules.d/71-akida-bind.rules"] {
        for term in rules(file).iter().flatten().filter(|t| t.key.contains("{device}")) {
            assert_eq!(term.value, wanted, "{file}");
            found += 1;
        }
    }
    assert_eq!(found, 2);
}

#[test]
fn broken_rules_are_noticed() {
    for bad in ["SUBSYSTEM", "SUBSYSTEM==\"vfio", "SUBSYSTEM \"vfio\"", "KERNEL==\"a\" MODE=\"0660\"", "A===\"b\"", ""]
    {
        assert!(rule(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn the_other_files_say_one_thing_each() {
    assert_eq!(lines("sysusers.d/akida.conf"), ["g akida -"]);
    assert_eq!(lines("modules-load.d/akida.conf"), ["vfio-pci"]);
    assert_eq!(lines("modprobe.d/akida.conf"), ["options vfio-pci disable_idle_d3=1"]);
    assert_eq!(lines("limits.d/akida.conf"), ["@akida - memlock unlimited"]);
    for line in lines("tmpfiles.d/akida.conf") {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // Root's, and nobody else may write; credentials only root may read.
        let folders = ["/run/akida", "/var/lib/akida"];
        let ours = match fields[..] {
            ["d", path, "0755", "root", "root", "-"] => folders.iter().any(|f| path.starts_with(f)),
            ["d", "/etc/akida/credentials", "0700", "root", "root", "-"] => true,
            _ => false,
        };
        assert!(ours, "{line}");
    }
}

#[test]
fn install_puts_everything_in_its_place() {
    let destination = tempfile::tempdir().expect("a folder");
    let run = |arguments: &[&str]| {
        let mut install = Command::new(folder().join("install"));
        install.args(arguments).env("DESTDIR", destination.path()).output().expect("a shell")
    };
    assert!(run(&[]).status.success());
    let rule = destination.path().join("usr/lib/udev/rules.d");
    assert!(rule.join("70-akida.rules").exists() && !rule.join("71-akida-bind.rules").exists(), "binding is opt-in");
    assert!(run(&["--bind"]).status.success() && rule.join("71-akida-bind.rules").exists());
    assert!(destination.path().join("etc/security/limits.d/akida.conf").exists());
    assert_eq!(run(&["--nonsense"]).status.code(), Some(64));
}

#[test]
fn systemd_agrees() {
    let checkers: [(&str, &[&str], &str); 2] = [
        ("systemd-sysusers", &["--dry-run"], "sysusers.d/akida.conf"),
        // The group need not exist on the machine that tests; where the rules work it does (tests/vm).
        ("udevadm", &["verify", "--resolve-names=never"], "rules.d/70-akida.rules"),
    ];
    for (program, arguments, file) in checkers {
        match Command::new(program).args(arguments).arg(folder().join(file)).output() {
            Err(e) => println!("SKIP {program}: {e}"),
            Ok(o) => {
                let said = String::from_utf8_lossy(&o.stderr).into_owned();
                // Before systemd 254 there was neither `--dry-run` nor `verify`.
                if said.contains("unrecognized option")
                    || said.contains("Unknown command")
                    || said.contains("unknown command")
                {
                    println!("SKIP {program}: too old");
                } else {
                    assert!(o.status.success(), "{program}: {said}");
                }
            }
        }
    }
}
