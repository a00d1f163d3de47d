//! Every exit code of docs/exit-codes.md that can be provoked without a board, one by one.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use akida_tools::exit::Exit;

use crate::support::*;

#[test]
fn each_code_means_what_the_table_says() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let (model, digits) = (model(), digits(d, 3));
    let (out, absent) = (d.join("out.npz"), d.join("absent.npz"));
    let nowhere = d.join("no/such/directory/out.npz");
    let text = d.join("text.npz");
    fs::write(&text, "no zip").unwrap();
    let sim = "{} --device sim:akida2 --input {}";
    let with = |more: &str| format!("{sim} {more}");

    akida_run(&with("--output {}"), &[model, &digits, &out]).expect(Exit::Done as i32, "");
    akida_run("--no-such-flag", &[]).expect(Exit::Usage as i32, "--no-such-flag");
    akida_run("{} --device sim:akida9 --input {}", &[model, &digits]).expect(Exit::Usage as i32, "akida9");
    akida_run(&with("--show 3"), &[model, &digits]).expect(Exit::Usage as i32, "sample 3");
    akida_run(sim, &[model, &text]).expect(Exit::Data as i32, "text.npz");
    akida_run(sim, &[model, &absent]).expect(Exit::NoInput as i32, "absent.npz");
    akida_run(sim, &[&absent, &digits]).expect(Exit::NoInput as i32, "absent.npz");
    akida_run("{} --device pci:0000:ff:1f.7 --input {}", &[model, &digits])
        .expect(Exit::Unavailable as i32, "0000:ff:1f.7");
    akida_run(&with("--faults refuse-allocation@1x*"), &[model, &digits]).expect(Exit::Os as i32, "memory");
    akida_run(&with("--output {}"), &[model, &digits, &nowhere]).expect(Exit::CantCreate as i32, "no/such/directory");
    akida_run(&with("--faults stall-input@1x*"), &[model, &digits]).expect(Exit::Retry as i32, "sim:akida2");
    akida_run(&with("--faults abort-link@1x*"), &[model, &digits]).expect(Exit::Board as i32, "aborted");
    akida_run(&with("--faults lose-device@1:forever"), &[model, &digits])
        .expect(Exit::Unavailable as i32, "sim:akida2");
}

/// A full disk half-way through: the code for I/O, and no file.
#[test]
fn a_full_disk_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let digits = digits(dir.path(), 3);
    akida_run("{} --device sim --input {} --output {}", &[model(), &digits, Path::new("/dev/full")])
        .expect(Exit::Io as i32, "/dev/full");
}

/// `akida-run ... | head -1`: no message, the code every Unix filter gives.
#[test]
fn a_closed_pipe_is_quiet_and_told_by_the_code() {
    let mut command = command(env!("CARGO_BIN_EXE_akida-run"), "--list", &[]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    drop(command);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(Exit::BrokenPipe as i32));
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
}

/// A fault that recovery cures is not an error, and the numbers are right.
#[test]
fn a_cured_fault_gives_the_right_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let digits = digits(dir.path(), 3);
    for fault in ["abort-link@400", "stall-input@2", "truncate-header@1"] {
        let arguments = format!("{{}} --device sim:akida2 --input {{}} --verify --faults {fault}");
        let ended = akida_run(&arguments, &[model(), &digits]).ok();
        assert!(ended.out.contains("equal the reference"), "{fault}: {}", ended.out);
        assert!(ended.err.contains("recovering"), "{fault} did not happen: {}", ended.err);
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for arguments in ["--help", "-h", "--version"] {
        assert!(akida_run(arguments, &[]).ok().out.contains("akida-run"));
        assert!(akida_convert(arguments, &[]).ok().out.contains("akida-convert"));
    }
    for subcommand in ["quantize", "import", "show", "check", "map"] {
        assert!(akida_convert(&format!("{subcommand} --help"), &[]).ok().out.contains("Usage"));
    }
}
