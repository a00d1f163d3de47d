use super::*;
use crate::model::sample;

#[test]
fn every_sample_in_both_forms() {
    let lines = |text: &str| text.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
    let text = summary(&sample::akida2(), Form::WithQuantizer);
    let found = lines(&text);
    for expected in [
        "[3, 8, 8]    [1, 1, 3]     1          11",
        "quantize (Quantizer)                     [8, 8, 3]     N/A",
        "first (InputConv2D)                      [4, 4, 4]     (3, 3, 3, 4)",
        "depthwise (DepthwiseConv2D)              [4, 4, 4]     (3, 3, 4, 1)",
        "add (Add)                                [4, 4, 4]     N/A",
        "up (Conv2DTranspose)                     [4, 4, 4]     (2, 2, 6, 4)",
        "depthwise up (DepthwiseConv2DTranspose)  [8, 8, 8]     (3, 3, 8, 1)",
        "head (Dense1D)                           [1, 1, 3]     (5, 3)",
        "dequantizer (Dequantizer)                [1, 1, 3]     N/A",
    ] {
        assert!(found.iter().any(|line| line == expected), "{expected:?} is missing in\n{text}");
    }
    let text = summary(&sample::akida2(), Form::WithoutQuantizer);
    assert!(text.contains("= SW/first-dequantizer (Software) ="), "{text}");
    assert!(text.contains("[8, 8, 3]    [1, 1, 3]     1          10"), "{text}");

    let text = summary(&sample::temporal(), Form::WithQuantizer);
    // InputData is counted, not shown.
    assert!(text.contains("[2, 3, 2]    [2, 3, 4]     1          3 "), "{text}");
    assert!(text.contains("SW/full-depthwise (Software)"), "{text}");
}

#[test]
fn separable_kernels_take_two_lines() {
    let text = summary(&sample::akida1(), Form::WithoutQuantizer);
    let found: Vec<&str> = text.lines().map(str::trim_end).collect();
    let at = found.iter().position(|line| line.starts_with("separable (Sep.Conv.)")).expect("a row");
    assert_eq!(found[at], "separable (Sep.Conv.)  [5, 5, 6]     (3, 3, 4, 1)");
    assert_eq!(found[at + 1], "                                     (1, 1, 4, 6)");
    assert!(found[at + 2].starts_with("____"));
    assert!(text.contains("first (InputConv.)"), "{text}");
    assert!(text.contains("head (Fully.)          [1, 1, 2]     (1, 1, 3, 2)"), "{text}");
    assert!(!text.contains("Dequantizer"), "{text}");
}

#[test]
fn mapped_models_tell_where_everything_is() {
    use crate::mapping::{MapOptions, map};
    use akida_hal::mesh::Mesh;

    let text = |model: &Model, mesh: Mesh| {
        let mapping = map(model, &mesh, &MapOptions::default()).expect("small");
        let text = mapped_summary(model, &mapping, Form::WithQuantizer);
        for hardware in mapping.hardware() {
            assert!(text.contains(&format!("(Hardware) - size: {} bytes", hardware.bytes())), "{text}");
        }
        let nps = mapping.hardware().flat_map(|h| &h.passes).flat_map(|p| &p.placed).filter(|p| !p.kind.is_empty());
        let row = text.lines().nth(4).expect("a row of numbers").split_whitespace().rev().nth(2);
        assert_eq!(row, Some(nps.count().to_string().as_str()), "NPs\n{text}");
        text
    };
    let v1 = text(&sample::akida1(), Mesh::akd1000());
    for expected in [
        "Input shape  Output shape  Sequences  Layers  NPs  Skip DMAs  External Memory (Bytes)\n",
        "Component (type)  Count\n",
        "HRC               1    \n",
        "Layer (type)           Output shape  Kernel shape  Components\n",
        "= HW/first-head (Hardware)",
        "first (InputConv.)     [9, 9, 4]     (3, 3, 1, 4)  1 HRC     \n",
    ] {
        assert!(v1.contains(expected), "{expected:?} is missing in\n{v1}");
    }
    let v2 = text(&sample::akida2(), Mesh::akida2_six_nodes());
    // The quantizer belongs to the first sequence, the dequantizer to the last.
    assert!(v2.contains("= HW/quantize-") && v2.contains("-dequantizer ("), "{v2}");
    text(&sample::temporal(), Mesh::akida2_six_nodes());
}
