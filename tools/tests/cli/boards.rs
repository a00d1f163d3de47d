//! `akida-ctl` and `akida-sim` on boards: traces, reports, faults.

use crate::support::{akida_ctl, akida_run, digits, files, model};

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
