//! The Akida 1.0 vectors: layers and chains on a simulated AKD1000.

use std::sync::Arc;

use akida_runtime::model::Target;
use akida_runtime::reference::{Reference, Rules};
use akida_runtime::session::{Batch, Detail};
use akida_tests::akida1::{Chain, cases, chain};
use ndarray::Axis;

use crate::Failed;
use crate::integers::{boards, open};
use crate::parameters::Share;

/// Vectors of one kind.
pub struct Row {
    pub kind: String,
    pub files: usize,
    pub reference: Share,
    pub board: Share,
    /// Layers whose integers the board made itself, and all layers.
    pub on_board: (usize, usize),
}

/// One row for each kind of layer, and one for chains.
pub fn rows() -> Result<Vec<Row>, Failed> {
    let mut rows: Vec<Row> = Vec::new();
    for (file, params) in cases() {
        let kind = params["type"].as_str().unwrap_or("chains of layers");
        if rows.last().is_none_or(|row| row.kind != kind) {
            let (reference, board) = (Share::default(), Share::default());
            rows.push(Row { kind: kind.to_owned(), files: 0, reference, board, on_board: (0, 0) });
        }
        let Some(row) = rows.last_mut() else { continue };
        add(row, chain(&file, &params)).map_err(|e| format!("{file}: {e}"))?;
    }
    Ok(rows)
}

fn add(row: &mut Row, chain: Chain) -> Result<(), Failed> {
    let model = Arc::new(chain.model);
    let bytes: Vec<Vec<u8>> =
        chain.inputs.outer_iter().map(|sample| sample.iter().map(|&v| v as u8).collect()).collect();
    let mut reference = Reference::new(&model, Rules::Chip);
    for (sample, input) in bytes.iter().enumerate() {
        let tensors = reference.run(input)?;
        for (layer, expected) in chain.outputs.iter().enumerate().filter(|(_, a)| sample < a.len_of(Axis(0))) {
            let expected = expected.index_axis(Axis(0), sample);
            row.reference.all += expected.len();
            row.reference.equal +=
                tensors[layer + 1].iter().zip(&expected).filter(|(a, b)| i64::from(**a) == **b).count();
        }
    }
    let stored = chain.outputs.iter().map(|a| a.len_of(Axis(0))).min().unwrap_or(0).min(bytes.len());
    for &board in boards(Target::Akd1000) {
        let mut session = open(board, &model)?;
        let outputs = session.infer_with(Batch::Bytes(&bytes[..stored]), Detail::AllTensors)?;
        for (layer, expected) in chain.outputs.iter().enumerate() {
            let Some(found) = outputs.intermediates.iter().find(|i| i.tensor == layer + 1) else {
                return Err(format!("layer {layer} is not given").into());
            };
            let tensor = model.tensor(layer + 1);
            for (found, expected) in found.values.outer_iter().zip(expected.outer_iter()) {
                // Vectors are (height, width, channels).
                let found: Vec<i32> = found.iter().copied().collect();
                let found = tensor.layout.to_chip(&found, tensor.shape);
                row.board.all += expected.len();
                row.board.equal += found.iter().zip(&expected).filter(|(a, b)| i64::from(**a) == **b).count();
            }
        }
        row.on_board.0 += session.mapping().hardware().map(|h| h.layers.len()).sum::<usize>();
    }
    row.on_board.1 += model.layers.len();
    row.files += 1;
    Ok(())
}
