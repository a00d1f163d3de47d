//! What a user should know about a quantized graph that nevertheless works.

use super::layer::Unsuitable;

/// A warning, as data; its text says what to do.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Warning {
    /// A chain of nodes has the operators of a layer but breaks its rules; it stays float.
    NotALayer {
        /// Names and operators.
        nodes: Vec<(String, String)>,
        /// One per builder that was tried.
        reasons: Vec<Unsuitable>,
    },
    /// Nodes that stay float, behind the dequantizer.
    LeftFloat {
        /// Names and operators.
        nodes: Vec<(String, String)>,
    },
    /// Calibrated with random samples, one range per channel.
    RandomSamples,
    /// A layer keeps 8 bits where fewer were asked for.
    EightBits {
        /// Its name.
        layer: String,
        /// Weights or activations.
        what: &'static str,
        /// Why.
        rule: &'static str,
    },
    /// A step of graph preparation could not be done; the graph is as it was before it.
    StepFailed {
        /// Name of the step.
        step: &'static str,
        /// Why.
        reason: String,
    },
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |nodes: &[(String, String)]| {
            nodes.iter().map(|(name, op)| format!("'{name}' ({op})")).collect::<Vec<_>>().join(", ")
        };
        match self {
            Warning::NotALayer { nodes, reasons } => {
                let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
                write!(f, "{} cannot become a layer of integers: {}", list(nodes), reasons.join("; "))
            }
            Warning::LeftFloat { nodes } => {
                write!(f, "{} stay in floating point, after the dequantizer", list(nodes))
            }
            Warning::RandomSamples => f.write_str(
                "calibrated per channel with random samples, which is not accurate: give real samples or --per-tensor",
            ),
            Warning::EightBits { layer, what, rule } => write!(f, "'{layer}' keeps 8 bits for its {what}: {rule}"),
            Warning::StepFailed { step, reason } => write!(f, "graph preparation: {step} was left out: {reason}"),
        }
    }
}
