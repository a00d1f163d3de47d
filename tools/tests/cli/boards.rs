//! `akida-ctl` and `akida-sim` on boards: traces, reports, faults.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::support::{akida_ctl, akida_run, akida_sim, command, digits, files, model};

#[test]
fn traces_of_one_run_are_equal_and_of_two_are_not() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = |name: &str| dir.path().join(name);
    let input = digits(dir.path(), 3);
    for (name, n) in [("a", "3"), ("b", "3"), ("c", "2")] {
        let arguments = format!("{{}} --input {{}} --device sim:akida2 --jobs 1 -n {n} --trace {{}}");
        akida_run(&arguments, &[model(), &input, &path(name)]).ok();
    }
    akida_ctl("selftest sim:akd1500 --trace {}", &[&path("d")]).ok();
    let equal = akida_ctl("trace compare {} {}", &[&path("a"), &path("b")]).ok();
    assert!(equal.out.starts_with("equal: ") && equal.out.ends_with(" accesses\n"), "{}", equal.out);
    for other in ["c", "d"] {
        let parts = akida_ctl("trace compare {} {}", &[&path("a"), &path(other)]);
        assert_eq!(parts.code, 1, "{}", parts.err);
        assert!(parts.out.contains("accesses are equal, then:\n  "), "{}", parts.out);
    }
    let json = akida_ctl("trace compare {} {} --format json", &[&path("a"), &path("c")]);
    assert_eq!(json.code, 1, "{}", json.err);
    let json: serde_json::Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!((&json["equal"], &json["schema"]), (&false.into(), &"akida-ctl-trace-compare/1".into()));

    akida_ctl("trace compare {} {}", &[&path("a"), &input]).expect(65, "name two files written by --trace");
    akida_ctl("trace compare {} {}", &[&path("a"), &path("none")]).expect(66, "cannot read");
    akida_ctl("selftest sim:akd1500 --trace {}", &[&path("no/where")]).expect(73, "cannot write");
    assert_eq!(files(dir.path()), ["a", "b", "c", "d", "digits3.npz"]);
}

/// The trace of a run that failed is there: that is when it is wanted.
#[test]
fn a_failed_run_leaves_its_trace() {
    let dir = tempfile::tempdir().expect("a folder");
    let (trace, input) = (dir.path().join("trace"), digits(dir.path(), 1));
    let arguments = "{} --input {} --device sim:akida2 --faults lose-device@5000:forever --trace {}";
    akida_run(arguments, &[model(), &input, &trace]).expect(69, "");
    let text = std::fs::read_to_string(&trace).expect("the trace");
    assert!(text.starts_with("# akida-trace/1 akida2 sim:akida2-6node (simulated)\n") && text.contains(" 0xffffffff"));
}

/// A board in another process fails when it is told to, and works when it is told to.
#[test]
fn faults_come_and_go_while_a_board_is_served() {
    let dir = tempfile::tempdir().expect("a folder");
    let (socket, control, plan) = (dir.path().join("board"), dir.path().join("control"), dir.path().join("plan"));
    std::fs::write(&plan, "# two of them\nabort-link@4\n\nall-ones@100000\n").expect("written");
    let serve = "serve --board akd1000 --socket {} --control {}";
    let mut server = command(env!("CARGO_BIN_EXE_akida-sim"), serve, &[&socket, &control]);
    let mut server = server.stdout(Stdio::piped()).spawn().expect("the simulator starts");
    let mut line = String::new();
    BufReader::new(server.stdout.take().expect("piped")).read_line(&mut line).expect("it says that it serves");
    let board = format!("vfio-user:{}", socket.display());
    let result = std::panic::catch_unwind(|| {
        akida_ctl(&format!("selftest {board}"), &[]).ok();
        let armed = akida_sim("fault --socket {} abort-link@4", &[&control]).ok();
        assert_eq!(armed.out, "armed: abort-link@4\n");
        let failed = akida_ctl(&format!("selftest {board}"), &[]);
        assert_eq!(failed.code, 76, "{}", failed.out);
        let seen = akida_sim("fault --socket {}", &[&control]).ok();
        assert_eq!(seen.out, "happened: abort-link@4 at 4\n");
        let file = format!("fault --socket {{}} @{}", plan.display());
        assert!(akida_sim(&file, &[&control]).ok().out.starts_with("armed: abort-link@4; all-ones@100000\n"));
        let mut none = command(env!("CARGO_BIN_EXE_akida-sim"), "fault --socket {}", &[&control]);
        none.arg("");
        assert!(crate::support::run(none).ok().out.starts_with("no faults are armed\n"));
        akida_ctl(&format!("selftest {board}"), &[]).ok();
        akida_sim("fault --socket {} explode@1", &[&control]).expect(64, "no fault has this name");
        akida_sim("fault --socket {} --board 3 stall-link@1", &[&control])
            .expect(64, "there is no board 3: 1 are served");
    });
    server.kill().expect("it runs");
    server.wait().expect("it ends");
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    akida_sim("fault --socket {}", &[&control]).expect(69, "no answer");
}

#[test]
fn selftest_ends_with_a_network_of_known_answers() {
    for board in ["sim:akd1000", "sim:akd1500", "sim:akida2", "sim:akida2-2node"] {
        let said = akida_ctl(&format!("selftest {board}"), &[]).ok().out;
        for check in ["registers", "memory", "loopback", "packets", "interrupt", "network"] {
            assert!(said.lines().any(|l| l.starts_with("passed") && l.contains(check)), "{board}: {check}:\n{said}");
        }
    }
}

#[test]
fn a_dump_lists_what_it_holds() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("bundle");
    let said = akida_ctl("dump sim:akd1500 -o {}", &[&file]).ok().out;
    let text = std::fs::read_to_string(&file).expect("written");
    for section in ["versions", "devices", "doctor", "kernel log", "registers of sim:akd1500"] {
        assert!(
            said.contains(&format!("  {section} (")) && text.contains(&format!("== {section}\n")),
            "{section}:\n{said}"
        );
    }
    assert!(text.contains("TOP IP_VERSION") && text.contains("0xbca10309"), "{text}");
    akida_ctl("dump sim:akd1500 -o {}", &[&dir.path().join("no/where")]).expect(73, "cannot write");
}

#[test]
fn monitor_looks_once_and_pipes_end_it() {
    akida_ctl("monitor --once", &[]).ok();
    let json = akida_ctl("monitor --once --format json", &[]).ok();
    let json: serde_json::Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!(json["schema"], "akida-ctl-monitor/1");
    akida_ctl("monitor --interval 0", &[]).expect(64, "from 0.1 to 3600");
}

#[test]
fn a_node_that_is_not_there_is_said_to_be_missing() {
    akida_ctl("info node:/dev/akida4711", &[]).expect(69, "load the vendor's module");
    akida_ctl("info node:/dev/null", &[]).expect(64, "name the vendor's node");
    akida_ctl("selftest node:/dev/akida0", &[]).expect(64, "does not show the PCI function");
}
