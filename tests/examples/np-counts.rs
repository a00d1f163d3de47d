//! Minimal NP counts of our mapper beside the vendor's (targets.md 4.5), as the table of docs/mapping.md.
//!
//! cargo run -p akida-tests --example np-counts
//!
//! The networks have random weights: counts depend on shapes and bits only.

use akida_hal::mesh::Mesh;
use akida_runtime::mapping::{MapOptions, Mode, map};
use akida_runtime::model::{Model, Target};
use akida_tests::zoo;

/// Vendor's NPs and bytes / 1024.
type Published = (usize, usize);

fn main() {
    let mut rows: Vec<(Model, Option<Published>)> = Vec::new();
    let target = Target::Akd1000;
    for (make, published) in [
        (
            zoo::akidanet as fn(Target, usize, usize, usize) -> Model,
            [(20, 403), (24, 1089), (68, 4061), (22, 409), (32, 1202), (116, 6294)],
        ),
        (zoo::mobilenet_v1, [(20, 376), (24, 1007), (65, 3526), (22, 378), (32, 1065), (110, 5223)]),
    ] {
        let sizes = [160, 224].into_iter().flat_map(|size| [1, 2, 4].map(|quarters| (quarters, size)));
        for ((quarters, size), published) in sizes.zip(published) {
            rows.push((make(target, quarters, size, 1000), Some(published)));
        }
    }
    rows.push((zoo::akidanet(target, 1, 96, 2), Some((16, 180))));
    rows.push((zoo::ds_cnn(target, 33), Some((5, 23))));
    rows.push((zoo::vgg_utkface(target), Some((6, 139))));
    rows.push((zoo::gxnor(target), Some((3, 413))));

    println!("| network | NPs, vendor | NPs, ours | passes | KiB, vendor | KiB, ours | layers on more NPs than one |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for (model, published) in rows {
        let options = MapOptions { hw_only: true, mode: Mode::Minimal, ..MapOptions::default() };
        let (vendor_nps, vendor_size) =
            published.map_or(("".into(), "".into()), |(n, s)| (n.to_string(), s.to_string()));
        let mapping = match map(&model, &Mesh::akd1000(), &options) {
            Ok(mapping) => mapping,
            Err(error) => {
                println!("| {} | {vendor_nps} | {error} | | {vendor_size} | | |", model.name);
                continue;
            }
        };
        let (mut nps, mut passes, mut bytes) = (0, 0, 0);
        let mut several = Vec::new();
        for sequence in mapping.hardware() {
            passes += sequence.passes.len();
            bytes += sequence.bytes();
            for parts in sequence.passes.iter().flat_map(|p| p.placed.chunk_by(|a, b| a.part.layer == b.part.layer)) {
                let count = parts.iter().filter(|p| !p.kind.is_empty()).count();
                nps += count;
                if count > 1 {
                    several.push(format!("{} {count}", model.layers[parts[0].layer].name));
                }
            }
        }
        let several = if several.is_empty() { "none".into() } else { several.join(", ") };
        println!(
            "| {} | {vendor_nps} | {nps} | {passes} | {vendor_size} | {} | {several} |",
            model.name,
            bytes.div_ceil(1024)
        );
    }
}
