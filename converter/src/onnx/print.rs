//! A graph as text, in the form the `onnx` package prints graphs.

use std::fmt;

use super::{Attribute, DType, Dim, Graph, Node, ValueType};

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "graph {}", self.name)?;
        if !self.inputs.is_empty() {
            writeln!(f, " (")?;
            for input in &self.inputs {
                writeln!(f, "  %{}[{}]", input.name, value_type(&input.ty))?;
            }
            write!(f, ")")?;
            if !self.initializers.is_empty() {
                writeln!(f, " initializers (")?;
                for (name, tensor) in &self.initializers {
                    writeln!(f, "  %{name}[{}, {}]", tensor.dtype(), dims(tensor.dims()))?;
                }
                write!(f, ")")?;
            }
        }
        writeln!(f, " {{")?;
        for node in &self.nodes {
            writeln!(f, "  {}", self::node(node))?;
        }
        writeln!(f, "  return {}", names(self.outputs.iter().map(|output| &output.name)))?;
        write!(f, "}}")
    }
}

/// One node as [`Graph`]'s text shows it.
pub fn node(node: &Node) -> String {
    let mut attributes: Vec<String> =
        node.attributes.iter().map(|(name, value)| format!("{name} = {}", attribute(value))).collect();
    attributes.sort();
    let attributes = if attributes.is_empty() { String::new() } else { format!("[{}]", attributes.join(", ")) };
    format!("{} = {}{attributes}({})", names(&node.outputs), node.op, names(&node.inputs))
}

fn names<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    names.into_iter().map(|name| format!("%{name}")).collect::<Vec<_>>().join(", ")
}

fn dims(dims: &[usize]) -> String {
    match dims {
        [] => "scalar".to_owned(),
        _ => dims.iter().map(usize::to_string).collect::<Vec<_>>().join("x"),
    }
}

fn value_type(ty: &ValueType) -> String {
    let dtype = ty.dtype.map_or("UNDEFINED", DType::name);
    let dim = |dim: &Dim| match dim {
        Dim::Fixed(size) => size.to_string(),
        Dim::Named(symbol) => symbol.clone(),
        Dim::Unknown => "?".to_owned(),
    };
    match &ty.shape {
        None => dtype.to_owned(),
        Some(shape) if shape.is_empty() => format!("{dtype}, scalar"),
        Some(shape) => format!("{dtype}, {}", shape.iter().map(dim).collect::<Vec<_>>().join("x")),
    }
}

fn attribute(value: &Attribute) -> String {
    fn list<T>(values: &[T], one: impl Fn(&T) -> String) -> String {
        format!("[{}]", values.iter().map(one).collect::<Vec<_>>().join(", "))
    }
    match value {
        Attribute::Float(v) => float(*v),
        Attribute::Int(v) => v.to_string(),
        Attribute::String(v) => format!("'{v}'"),
        // The values of a scalar would stand here if they were not stored as raw data, which they always are.
        Attribute::Tensor(v) if v.dims().is_empty() => "<Scalar Tensor []>".to_owned(),
        Attribute::Tensor(_) => "<Tensor>".to_owned(),
        Attribute::Floats(v) => list(v, |&v| float(v)),
        Attribute::Ints(v) => list(v, i64::to_string),
        Attribute::Strings(v) => list(v, |v| format!("'{v}'")),
        Attribute::Reference { .. } => "<Unknown>".to_owned(),
    }
}

/// C's `%.15g` of the value as a double.
fn float(value: f32) -> String {
    let value = f64::from(value);
    if value == 0.0 || !value.is_finite() {
        return if value.is_nan() { "nan".into() } else { value.to_string() };
    }
    let scientific = format!("{value:.14e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| {
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
    };
    if (-4..15).contains(&exponent) {
        trim(&format!("{value:.*}", (14 - exponent).max(0) as usize))
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{}e{sign}{:02}", trim(mantissa), exponent.abs())
    }
}

#[cfg(test)]
mod tests {
    use super::float;

    #[test]
    fn floats_print_like_percent_15g() {
        for (value, text) in [
            (1.0, "1"),
            (0.1, "0.100000001490116"),
            (0.0, "0"),
            (-2.5, "-2.5"),
            (1e-5, "9.99999974737875e-06"),
            (1e20, "1.00000002004088e+20"),
            (255.0, "255"),
        ] {
            assert_eq!(float(value), text);
        }
    }
}
