//! The repository changes while requests come.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use akida_serve::engine::Engine;
use akida_serve::error::Kind;
use akida_serve::service::{ModelState, Service};

use crate::support::*;

/// (version, ready, part of the reason) of a model.
fn index(engine: &Engine, name: &str) -> Vec<(u32, bool, String)> {
    let entries = engine.models().into_iter().filter(|e| e.name == name);
    entries.map(|e| (e.version, e.state == ModelState::Ready, e.reason)).collect()
}

#[track_caller]
fn expect(engine: &Engine, name: &str, expected: &[(u32, bool, &str)]) {
    let found = index(engine, name);
    let same = |(f, e): (&(u32, bool, String), &(u32, bool, &str))| {
        f.0 == e.0 && f.1 == e.1 && if e.2.is_empty() { f.2.is_empty() } else { f.2.contains(e.2) }
    };
    assert!(found.len() == expected.len() && found.iter().zip(expected).all(same), "{found:?} is not {expected:?}");
}

/// Looks at the folder and waits until that is done.
fn look(engine: &Engine) {
    engine.rescan();
    // Commands are done in order; there is no such model.
    assert_eq!(engine.load("nothing").expect_err("no model").kind, Kind::NotFound);
}

#[test]
fn versions_come_and_go() {
    let repository = Repository::new();
    repository.put("m", 1, "mnist_cnn");
    fs::create_dir_all(repository.path().join("empty")).expect("a folder");
    let engine = start(settings(&repository, &["sim:akida2"]));
    expect(&engine, "m", &[(1, true, "")]);
    assert!(index(&engine, "empty").is_empty());
    let served = |engine: &Engine| ask(engine, digits(engine, "m", 1, 1)).map(|a| a.version).map_err(|e| e.kind);
    assert_eq!(served(&engine), Ok(1));

    // A newer one takes over; the old one stays in the folder.
    repository.put("m", 2, "mnist_cnn");
    look(&engine);
    expect(&engine, "m", &[(1, false, "newest"), (2, true, "")]);
    assert_eq!(served(&engine), Ok(2));
    let mut old = digits(&engine, "m", 1, 1);
    old.version = Some(1);
    assert_eq!(ask(&engine, old).expect_err("not served").kind, Kind::Unavailable);

    // A damaged one does not.
    repository.put("m", 3, "mnist_cnn");
    let good = fs::read(repository.file("m", 3)).expect("a file");
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    fs::write(repository.file("m", 3), &bad).expect("a file");
    look(&engine);
    expect(&engine, "m", &[(1, false, "newest"), (2, true, ""), (3, false, "model.akm")]);
    assert_eq!(served(&engine), Ok(2));
    // Nor half of one.
    fs::write(repository.file("m", 3), &good[..good.len() / 3]).expect("a file");
    look(&engine);
    expect(&engine, "m", &[(1, false, "newest"), (2, true, ""), (3, false, "model.akm")]);
    // The rest comes.
    fs::write(repository.file("m", 3), &good).expect("a file");
    look(&engine);
    expect(&engine, "m", &[(1, false, "newest"), (2, false, "newest"), (3, true, "")]);

    // Replaced in place by what is none: the one before goes on, from memory.
    fs::write(repository.file("m", 3), b"no model").expect("a file");
    look(&engine);
    expect(
        &engine,
        "m",
        &[(1, false, ""), (2, false, ""), (3, true, "the version before is served")].map(|mut e| {
            if e.0 < 3 {
                e.2 = "newest"
            };
            e
        }),
    );
    assert_eq!(served(&engine), Ok(3));

    // Options that are wrong change nothing; those that are right do.
    fs::write(repository.file("m", 3), &good).expect("a file");
    repository.write("m", "model.toml", "max_batch = 0\n");
    look(&engine);
    assert!(index(&engine, "m").iter().any(|(v, ready, why)| *v == 3 && *ready && why.contains("max_batch")));
    repository.write("m", "model.toml", "max_batch = 3\nversions = 2\n");
    look(&engine);
    expect(&engine, "m", &[(1, false, "newest"), (2, true, ""), (3, true, "")]);
    assert_eq!(engine.model("m", None).expect("a model").max_batch, 3);
    assert_eq!(engine.model("m", Some(2)).expect("a model").versions, [1, 2, 3]);

    // The newest goes, then all.
    fs::remove_dir_all(repository.path().join("m/3")).expect("a folder");
    look(&engine);
    assert_eq!(served(&engine), Ok(2));
    fs::remove_dir_all(repository.path().join("m")).expect("a folder");
    look(&engine);
    assert!(index(&engine, "m").is_empty());
    assert_eq!(
        ask(&engine, request("m", tensor("x", akida_serve::request::DataType::Fp32, &[1], vec![0; 4])))
            .expect_err("gone")
            .kind,
        Kind::NotFound
    );
}

#[test]
fn by_hand() {
    let repository = Repository::new();
    repository.put("a", 1, "mnist_cnn");
    repository.put("b", 1, "mlp");
    let mut settings = settings(&repository, &["sim:akida2"]);
    settings.repository.explicit = true;
    settings.repository.load = vec!["b".into()];
    let engine = start(settings);
    expect(&engine, "a", &[(1, false, "asked for")]);
    expect(&engine, "b", &[(1, true, "")]);
    engine.load("a").expect("it loads");
    assert!(ask(&engine, digits(&engine, "a", 2, 1)).is_ok());
    let before = digits(&engine, "a", 1, 1);
    engine.unload("a").expect("it unloads");
    expect(&engine, "a", &[(1, false, "unloaded")]);
    let error = ask(&engine, before.clone()).expect_err("not served");
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(error.message.contains("UNAVAILABLE: unloaded"), "{error}");
    look(&engine);
    assert!(ask(&engine, before.clone()).is_err(), "it stays unloaded");
    assert_eq!(engine.unload("c").expect_err("no such model").kind, Kind::NotFound);
    // What cannot be loaded says so, and leaves what was there.
    engine.load("a").expect("it loads again");
    fs::write(repository.file("a", 1), b"no model").expect("a file");
    let error = engine.load("a").expect_err("it is no model");
    assert_eq!(error.kind, Kind::Invalid);
    assert!(error.message.contains("model.akm"), "{error}");
    assert!(ask(&engine, before).is_ok());
    // A model for another chip is refused by name.
    let v1 = Repository::new();
    v1.put("x", 1, "mnist_cnn");
    let other = start(crate::support::settings(&v1, &["sim:akd1000"]));
    let (_, ready, reason) = index(&other, "x").remove(0);
    assert!(!ready && reason.contains("akida2"), "{reason}");
}

#[test]
fn a_swap_under_load_loses_no_request() {
    let repository = Repository::new();
    repository.put("m", 1, "mnist_cnn");
    let engine = start(settings(&repository, &["sim:akida2"]));
    let expected = ask(&engine, digits(&engine, "m", 2, 3)).expect("an answer").outputs;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut versions = std::collections::BTreeSet::new();
                    while !stop.load(Ordering::Relaxed) {
                        let pending: Vec<_> = (0..4).map(|_| send(&engine, digits(&engine, "m", 2, 3))).collect();
                        for pending in pending {
                            let answer = pending.wait().expect("no request is lost");
                            assert_eq!(answer.outputs, expected);
                            versions.insert(answer.version);
                        }
                    }
                    versions
                })
            })
            .collect();
        for version in 2..6 {
            repository.put("m", version, "mnist_cnn");
            look(&engine);
            // In place too.
            fs::write(repository.path().join("m/model.toml"), format!("max_batch = {}\n", 10 + version))
                .expect("a file");
            look(&engine);
            assert_eq!(ask(&engine, digits(&engine, "m", 1, 1)).expect("an answer").version, version);
        }
        stop.store(true, Ordering::Relaxed);
        for worker in workers {
            let versions = worker.join().expect("a worker");
            assert!(versions.len() > 1, "{versions:?}");
        }
    });
    assert_eq!(engine.status().errors.len(), 0, "{:?}", engine.status().errors);
}
