//! Outputs: dense payloads and events (hardware.md section 12.2).

use super::{CnpEvent, FnpEvent, FormatError, FormatType, OutputHeader, cnp_potential, fnp_potential, hrc_potential};
use crate::program::{OutputKind, OutputPort};

/// The elements of one output, dense in (height, width, channels) order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputValues {
    /// Signed bytes: signed activations of up to 8 bits.
    I8(Vec<i8>),
    /// Unsigned bytes: unsigned activations of up to 8 bits.
    U8(Vec<u8>),
    /// Potentials, and anything above 8 bits.
    I32(Vec<i32>),
}

impl OutputValues {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            OutputValues::I8(v) => v.len(),
            OutputValues::U8(v) => v.len(),
            OutputValues::I32(v) => v.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Element `i` as a wide integer.
    pub fn get(&self, i: usize) -> Option<i32> {
        match self {
            OutputValues::I8(v) => v.get(i).map(|v| i32::from(*v)),
            OutputValues::U8(v) => v.get(i).map(|v| i32::from(*v)),
            OutputValues::I32(v) => v.get(i).copied(),
        }
    }

    /// An empty value of the type a port gives. Bytes of 8 bits are signed when the port says so; the vendor engine
    /// takes 8 bits as signed always, and fewer as unsigned (hardware.md section 12.2), which its ports must say too.
    pub fn empty(port: &OutputPort) -> Self {
        match (port.bits > 8, port.signed) {
            (true, _) => OutputValues::I32(Vec::new()),
            (false, true) => OutputValues::I8(Vec::new()),
            (false, false) => OutputValues::U8(Vec::new()),
        }
    }
}

/// Decodes the payload of an output (without its header) into `values`, which keeps its memory when it has the right
/// type. `payload` is as long as the header says.
///
/// # Errors
/// [`FormatError`] when the header or an event contradicts the port; `values` is unspecified then.
pub fn decode_output(
    port: &OutputPort,
    header: OutputHeader,
    payload: &[u8],
    values: &mut OutputValues,
) -> Result<(), FormatError> {
    let dense = port.kind == OutputKind::Dense;
    if header.format == FormatType::Loopback || header.format.is_dense() != dense {
        return Err(FormatError::Unexpected { format: header.format, expected: port.kind });
    }
    let empty = OutputValues::empty(port);
    if std::mem::discriminant(values) != std::mem::discriminant(&empty) {
        *values = empty;
    }
    if dense { decode_dense(port, header, payload, values) } else { decode_events(port, payload, values) }
}

fn decode_dense(
    port: &OutputPort,
    header: OutputHeader,
    payload: &[u8],
    values: &mut OutputValues,
) -> Result<(), FormatError> {
    let bytes = port.dense_bytes();
    let expected = bytes.div_ceil(4);
    if header.words as usize != expected || payload.len() < bytes {
        return Err(FormatError::Size { words: header.words as usize, expected });
    }
    let payload = &payload[..bytes];
    match values {
        OutputValues::U8(out) => {
            out.clear();
            out.extend_from_slice(payload);
        }
        OutputValues::I8(out) => {
            out.clear();
            out.extend(payload.iter().map(|b| b.cast_signed()));
        }
        OutputValues::I32(out) => {
            out.clear();
            out.extend(payload.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b)));
        }
    }
    Ok(())
}

fn decode_events(port: &OutputPort, payload: &[u8], values: &mut OutputValues) -> Result<(), FormatError> {
    let elements: usize = port.shape.iter().map(|d| *d as usize).product();
    match values {
        OutputValues::U8(out) => {
            out.clear();
            out.resize(elements, 0);
        }
        OutputValues::I8(out) => {
            out.clear();
            out.resize(elements, 0);
        }
        OutputValues::I32(out) => {
            out.clear();
            out.resize(elements, 0);
        }
    }
    let (pairs, rest) = payload.as_chunks::<8>();
    if !rest.is_empty() || pairs.len() > elements {
        return Err(FormatError::Size { words: payload.len() / 4, expected: elements * 2 });
    }
    for (event, pair) in pairs.iter().enumerate() {
        let word = |i: usize| u32::from_le_bytes([pair[i], pair[i + 1], pair[i + 2], pair[i + 3]]);
        let words = [word(0), word(4)];
        let (at, activation, potential) = match port.kind {
            OutputKind::FnpEvents => {
                let e = FnpEvent::decode(words);
                (fnp_position(port.shape, e.index), e.value, fnp_potential(words))
            }
            OutputKind::HrcEvents => {
                let e = CnpEvent::decode(words);
                // Activations have the coordinates exchanged, potentials have those of a CNP (hardware.md 12.2).
                let [row, column] = if port.bits > 8 { [e.first, e.second] } else { [e.second, e.first] };
                ([row, column, e.channel].map(u32::from), e.value.into(), hrc_potential(words))
            }
            OutputKind::CnpEvents | OutputKind::Dense => {
                let e = CnpEvent::decode(words);
                ([e.first, e.second, e.channel].map(u32::from), e.value.into(), cnp_potential(words))
            }
        };
        if at.iter().zip(port.shape).any(|(c, d)| *c >= d) {
            return Err(FormatError::Outside { event, words, shape: port.shape });
        }
        let index = ((at[0] * port.shape[1] + at[1]) * port.shape[2] + at[2]) as usize;
        match values {
            OutputValues::U8(out) => out[index] = activation as u8,
            OutputValues::I8(out) => out[index] = (activation as u8).cast_signed(),
            OutputValues::I32(out) => out[index] = potential,
        }
    }
    Ok(())
}

/// Where a linear FNP index lies: the inverse of the column-major order.
fn fnp_position(shape: [u32; 3], index: u32) -> [u32; 3] {
    let [d0, d1, _] = shape.map(|d| d.max(1));
    [index % d0, index / d0 % d1, index / d0 / d1]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{CnpEvent, InputEvents};
    use super::*;

    fn port(shape: [u32; 3], bits: u8, kind: OutputKind) -> OutputPort {
        OutputPort { shape, bits, signed: bits > 8, kind }
    }

    fn bytes(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    proptest! {
        /// Input events read back as output events give the dense tensor.
        #[test]
        fn events_round_trip(shape in [1u32..7, 1u32..7, 1u32..7], seed: u64) {
            let n: u32 = shape.iter().product();
            let values: Vec<u8> = (0..n).map(|i| {
                let hash = (u64::from(i) ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56;
                if hash < 128 { 0 } else { hash as u8 }
            }).collect();
            prop_assume!(values.iter().any(|v| *v != 0));
            for (kind, words, format) in [
                (OutputKind::CnpEvents, InputEvents::cnp(shape, &values)?.all(), FormatType::Convolution),
                (OutputKind::FnpEvents, InputEvents::fnp(shape, &values)?.all(), FormatType::FcActivations),
            ] {
                let header = OutputHeader { words: words.len() as u32, format };
                let mut out = OutputValues::U8(vec![9; 3]);
                decode_output(&port(shape, 8, kind), header, &bytes(&words), &mut out)?;
                prop_assert_eq!(out, OutputValues::U8(values.clone()));
            }
        }

        #[test]
        fn any_payload_is_decoded_or_refused(payload in prop::collection::vec(any::<u8>(), 0..256), kind in 0..4) {
            let kind = [OutputKind::Dense, OutputKind::CnpEvents, OutputKind::FnpEvents, OutputKind::HrcEvents]
                [kind as usize];
            let format = if kind == OutputKind::Dense { FormatType::DenseCnpActivations } else { FormatType::Convolution };
            let header = OutputHeader { words: payload.len() as u32 / 4, format };
            let _ = decode_output(&port([3, 4, 5], 8, kind), header, &payload, &mut OutputValues::U8(Vec::new()));
        }
    }

    #[test]
    fn the_hrc_exchanges_its_coordinates() {
        let event = CnpEvent { first: 3, second: 1, channel: 0, value: 7 }.encode();
        let header = OutputHeader { words: 2, format: FormatType::Convolution };
        let mut out = OutputValues::U8(Vec::new());
        decode_output(&port([2, 4, 1], 8, OutputKind::HrcEvents), header, &bytes(&event), &mut out).expect("inside");
        assert_eq!(out, OutputValues::U8(vec![0, 0, 0, 0, 0, 0, 0, 7]));
    }

    #[test]
    fn dense_outputs_are_checked_for_size_and_type() {
        let port = port([1, 1, 3], 32, OutputKind::Dense);
        let payload = bytes(&[1, u32::MAX, 3]);
        let header = |words, format| OutputHeader { words, format };
        let mut out = OutputValues::U8(Vec::new());
        decode_output(&port, header(3, FormatType::DenseFnpPotentials), &payload, &mut out).expect("fits");
        assert_eq!(out, OutputValues::I32(vec![1, -1, 3]));
        for (header, payload) in [
            (header(2, FormatType::DenseFnpPotentials), &payload[..]),
            (header(3, FormatType::DenseFnpPotentials), &payload[..8]),
            (header(3, FormatType::Loopback), &payload[..]),
            (header(3, FormatType::FcPotentials), &payload[..]),
        ] {
            assert!(decode_output(&port, header, payload, &mut out).is_err(), "{header:?}");
        }
    }
}
