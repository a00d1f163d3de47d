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
