//! `cargo run --manifest-path tools/serve/proto/generate/Cargo.toml [-- --check]`: Rust of the protocol's messages and services,
//! without protoc. With `--check` nothing is written; it fails where a checked-in file is not what would be made.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let check = env::args().any(|a| a == "--check");
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no folder above")?;
    let checked_in = proto.parent().ok_or("no folder above")?.join("src/proto");
    let made = env::temp_dir().join(format!("akida-proto-{}", std::process::id()));
    fs::create_dir_all(&made)?;
    let files = protox::compile(["inference.proto", "health.proto"], [proto])?;
    tonic_prost_build::configure()
        .bytes(".inference")
        .out_dir(&made)
        .compile_fds(files)?;
    let mut stale = Vec::new();
    for (name, to) in [("inference.rs", "inference.rs"), ("grpc.health.v1.rs", "health.rs")] {
        let text = fs::read_to_string(made.join(name))?;
        let to = checked_in.join(to);
        if check {
            if fs::read_to_string(&to).ok().as_deref() != Some(&text) {
                stale.push(to);
            }
        } else {
            fs::create_dir_all(&checked_in)?;
            fs::write(&to, text)?;
        }
    }
    fs::remove_dir_all(&made)?;
    match stale.is_empty() {
        true => Ok(()),
        false => Err(format!("not what the .proto files give: {stale:?}; run this without --check").into()),
    }
}
