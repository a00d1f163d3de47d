use super::*;

fn check(text: &str) -> Result<Config, Failure> {
    let file = File::parse(text).map_err(|e| config(e, ""))?;
    Config::check(file, None)
}

const MINIMAL: &str = "repository = \"/m\"\ndevice = [\"sim:akida2\"]\nhttp = [\"127.0.0.1:8000\"]\n";

#[test]
fn a_file_that_says_all_is_read_back_the_same() {
    let text = "repository = \"/m\"\ndevice = [\"sim:akida2\", \"sim:akida2\", \"03:00.0\"]\nhttp = [\"127.0.0.1:8000\", \
                \"unix:/run/a.sock\"]\ngrpc = [\"[::1]:8001\"]\nmetrics = [\"127.0.0.1:8002\"]\nlog = \"json\"\n\
                [models]\ncontrol = \"explicit\"\nload = [\"a\"]\nbatch_delay_ms = 1.5\n[health]\nretest = 0\n\
                [limits]\nstall = 2.5\n[[board]]\ndevice = \"sim:akd1000\"\nname = \"old\"\nfaults = \"stall-link@3\"\n";
    let read = check(text).expect("a good file");
    let names: Vec<&str> = read.engine.boards.iter().map(|b| b.name.as_str()).collect();
    assert_eq!(names, ["sim:akida2-6node", "sim:akida2-6node#2", "pci:0000:03:00.0", "old"]);
    assert_eq!(read.http[1], Address::Unix("/run/a.sock".into()));
    assert_eq!(read.engine.defaults.delay, Duration::from_micros(1500));
    assert!(read.engine.repository.explicit && read.engine.health.retest.is_zero());
    let printed = read.effective.print().expect("it can be printed");
    let again = check(&printed).expect("what is printed can be read");
    assert_eq!(again.effective.print().expect("again"), printed);
    assert_eq!(format!("{:?}", again.engine), format!("{:?}", read.engine));
    // Defaults are printed too.
    let minimal = check(MINIMAL).expect("enough").effective.print().expect("it can be printed");
    for key in ["drain = 30.0", "queue_requests = 4096", "[limits]", "self_test = 1", "stuck = 60.0"] {
        assert!(minimal.contains(key), "{key} is missing in\n{minimal}");
    }
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let cases: [(&str, &[&str]); 17] = [
        ("repositry = \"/m\"", &["line 1, column 1", "repositry", "repository"]),
        ("[models]\nbatch = 1", &["line 5", "batch"]),
        ("http = 8000", &["duplicate key"]),
        ("[scheduler]\nqueue_requests = 0", &["scheduler.queue_requests = 0", "from 1"]),
        ("[scheduler]\nqueue_requests = -1", &["line 5"]),
        ("[health]\nstuck = 1e9", &["health.stuck = 1000000000", "3600"]),
        ("[health]\nstuck = nan", &["health.stuck = NaN"]),
        ("[models]\ncontrol = \"all\"", &["line 5", "poll", "explicit"]),
        ("[models]\nmax_batch = 100000", &["models.max_batch = 100000", "4096"]),
        ("grpc = [\"localhost\"]", &["grpc", "localhost", "127.0.0.1:8000"]),
        ("grpc = [\"unix:\"]", &["path"]),
        ("[[board]]\ndevice = \"auto\"", &["auto", "choice"]),
        ("[[board]]\ndevice = \"vfio-noiommu:03:00.0\"", &["vfio-noiommu:0000:03:00.0", "no IOMMU confines"]),
        ("[[board]]\ndevice = \"sim:none\"", &["none", "akd1000"]),
        ("[[board]]\ndevice = \"03:00.0\"\nfaults = \"stall-link@1\"", &["faults", "pci:0000:03:00.0"]),
        ("[[board]]\ndevice = \"sim:akida2\"\nfaults = \"melt@1\"", &["melt"]),
        ("[[board]]\ndevice = \"03:00.0\"\n[[board]]\ndevice = \"pci:0000:03:00.0\"", &["twice"]),
    ];
    for (more, parts) in cases {
        let failure = check(&format!("{MINIMAL}{more}\n")).map(|_| ()).expect_err(more);
        assert_eq!(failure.exit, Exit::Config, "{more}: {failure}");
        let at_line = |part: &&str| match *part {
            // The first case's line is behind the minimal ones.
            "line 1, column 1" => failure.message.contains("line 4, column 1"),
            part => failure.message.contains(part),
        };
        assert!(parts.iter().all(at_line), "{more}: {failure}");
    }
    for (text, exit) in [
        ("", Exit::Usage),
        ("repository = \"/m\"", Exit::Usage),
        ("repository = \"/m\"\ndevice = [\"sim:akida2\"]", Exit::Usage),
    ] {
        assert_eq!(check(text).map(|_| ()).expect_err(text).exit, exit);
    }
}

#[test]
fn flags_go_before_the_file() {
    use clap::Parser;
    let mut file = File::parse(MINIMAL).expect("a file");
    let flags = [
        "akida-serve",
        "--repository",
        "/n",
        "--device",
        "sim:akd1000",
        "--device",
        "sim:akd1500",
        "--http",
        "[::]:9",
        "--grpc",
        "[::]:9",
        "--model-control",
        "explicit",
        "--load-model",
        "x",
        "--log-format",
        "json",
    ];
    Args::parse_from(flags).apply(&mut file);
    let config = Config::check(file, None).expect("good");
    assert_eq!(config.engine.repository.path, Path::new("/n"));
    let names: Vec<&str> = config.engine.boards.iter().map(|b| b.name.as_str()).collect();
    assert_eq!(names, ["sim:akd1000", "sim:akd1500"]);
    assert_eq!(config.http, config.grpc);
    assert_eq!((config.engine.repository.load.as_slice(), config.log), (&["x".to_owned()][..], LogFormat::Json));
    assert!(Args::try_parse_from(["akida-serve", "--model-control", "none"]).is_err());
}
