//! Summaries against those of the vendor's tools, byte for byte.

use akida_converter::{
    import::{ImportOptions, import},
    onnx,
};
use akida_runtime::summary::{Form, summary};
use akida_tests::conformance::{Case, root};

#[test]
fn every_summary_of_every_case() {
    let mut compared = 0;
    let cases =
        std::fs::read_dir(root()).expect("the conformance data").map(|entry| entry.expect("an entry").file_name());
    for name in cases {
        let Some(case) = Case::find(&name.to_string_lossy()) else { continue };
        for (form, file) in [
            (Form::WithQuantizer, "akida_summary.txt"),
            (Form::WithoutQuantizer, "akida_summary_without_quantizer.txt"),
        ] {
            // Not every network converts with the vendor's tools.
            let Ok(expected) = std::fs::read_to_string(case.path(file)) else { continue };
            let graph = onnx::load(&case.path("quantized.onnx")).unwrap_or_else(|e| panic!("{e}"));
            let options = ImportOptions { allow_float_tail: true, ..ImportOptions::default() };
            let model = import(&graph, options).unwrap_or_else(|e| panic!("{}: {e}", case.name)).model;
            let found = summary(&model, form);
            assert!(found == expected, "{}: {file}\nexpected:\n{expected}\nfound:\n{found}", case.name);
            compared += 1;
        }
    }
    assert!(compared >= 48, "only {compared} summaries were compared");
}
