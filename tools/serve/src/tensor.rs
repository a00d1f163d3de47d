//! Elements of tensors on the wire: checks of sizes, and JSON's numbers to bytes and back.

use std::fmt;

use bytes::{Bytes, BytesMut};
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde::ser::{SerializeSeq, Serializer};

use crate::error::{Kind, ServeError};
use crate::request::{DataType, NamedTensor};

/// More dimensions than any network has.
pub const MOST_DIMENSIONS: usize = 8;

/// The type the protocol calls so.
///
/// # Errors
///
/// [`Kind::Invalid`], with the types there are.
pub fn datatype(tensor: &str, name: &str) -> Result<DataType, ServeError> {
    DataType::ALL.into_iter().find(|t| t.as_str() == name).ok_or_else(|| {
        let known: Vec<_> = DataType::ALL.iter().map(|t| t.as_str()).collect();
        invalid(format!("tensor '{}': datatype '{}' is none of {}", short(tensor), short(name), known.join(", ")))
    })
}

/// Dimensions, and how many elements they hold.
///
/// # Errors
///
/// [`Kind::Invalid`] for negative or too many dimensions, and for more elements than can be counted.
pub fn shape(tensor: &str, dims: &[i64]) -> Result<(Vec<usize>, usize), ServeError> {
    let tensor = short(tensor);
    if dims.is_empty() || dims.len() > MOST_DIMENSIONS {
        let message = format!("tensor '{tensor}': {} dimensions; 1 to {MOST_DIMENSIONS} are taken", dims.len());
        return Err(invalid(message));
    }
    let mut count = 1usize;
    let mut sizes = Vec::with_capacity(dims.len());
    for &dim in dims {
        let size = usize::try_from(dim).map_err(|_| {
            invalid(format!("tensor '{tensor}': shape {dims:?} has the dimension {dim}; none is negative"))
        })?;
        count = count.checked_mul(size).filter(|&n| n <= isize::MAX as usize / 8).ok_or_else(|| {
            invalid(format!("tensor '{tensor}': shape {dims:?} has more elements than there is memory"))
        })?;
        sizes.push(size);
    }
    Ok((sizes, count))
}

/// Checks that bytes are the elements of a shape.
///
/// # Errors
///
/// [`Kind::Invalid`] with both sizes; for strings, where the lengths do not add up.
pub fn check(tensor: &str, datatype: DataType, count: usize, data: &[u8]) -> Result<(), ServeError> {
    let tensor = short(tensor);
    match datatype.size() {
        Some(size) if data.len() != count * size => {
            let message = format!(
                "tensor '{tensor}': {count} elements of {datatype} are {} bytes, {} came",
                count * size,
                data.len()
            );
            Err(invalid(message))
        }
        Some(_) => Ok(()),
        None => {
            let found = strings(data).try_fold(0usize, |n, s| s.map(|_| n + 1));
            match found {
                Some(n) if n == count => Ok(()),
                Some(n) => Err(invalid(format!("tensor '{tensor}': its shape holds {count} strings, {n} came"))),
                None => Err(invalid(format!(
                    "tensor '{tensor}': {} bytes are no row of strings, each behind its length in 4 bytes, little-endian",
                    data.len()
                ))),
            }
        }
    }
}

/// The strings of a BYTES tensor; `None` and the end where lengths do not add up.
pub fn strings(data: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest = data;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let split = rest.split_at_checked(4).and_then(|(length, after)| {
            let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
            after.split_at_checked(length)
        });
        rest = split.map_or(&[][..], |(_, after)| after);
        Some(split.map(|(string, _)| string))
    })
}

/// Appends a string as BYTES tensors have it. Strings come from bodies, whose limit is below 4 GiB.
pub fn push_string(out: &mut BytesMut, string: &[u8]) {
    out.extend_from_slice(&u32::try_from(string.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(string);
}

/// Reads JSON's elements of a tensor, nested by dimensions or flat.
///
/// # Errors
///
/// [`Kind::Invalid`] for elements that the type does not hold, and for another number of them than `count`.
pub fn from_json(tensor: &str, datatype: DataType, count: usize, text: &str) -> Result<Bytes, ServeError> {
    if !text.trim_start().starts_with('[') {
        return Err(invalid(format!("tensor '{}': data is no list of {datatype} elements", short(tensor))));
    }
    // What is announced is not trusted: an element takes at least two characters.
    let room = count.min(text.len() / 2 + 1) * datatype.size().unwrap_or(4);
    let mut out = BytesMut::with_capacity(room);
    let mut found = 0;
    let mut reader = serde_json::Deserializer::from_str(text);
    Fill { datatype, out: &mut out, found: &mut found, depth: 0 }
        .deserialize(&mut reader)
        .map_err(|e| invalid(format!("tensor '{}': data: {e}", short(tensor))))?;
    if found != count {
        let message = format!("tensor '{}': its shape holds {count} elements, {found} came in data", short(tensor));
        return Err(invalid(message));
    }
    Ok(out.freeze())
}

/// Appends elements to bytes.
struct Fill<'a> {
    datatype: DataType,
    out: &'a mut BytesMut,
    found: &'a mut usize,
    depth: usize,
}

impl Fill<'_> {
    fn push<E: Error>(self, bytes: &[u8]) -> Result<(), E> {
        self.out.extend_from_slice(bytes);
        *self.found += 1;
        Ok(())
    }

    fn integer<E: Error>(self, value: i64) -> Result<(), E> {
        let datatype = self.datatype;
        let outside = || E::custom(format!("{value} is outside {datatype}"));
        match self.datatype {
            // Above 2^24 the nearest, as for any decimal.
            DataType::Fp32 => self.push(&(value as f32).to_le_bytes()),
            DataType::Uint8 => self.push_checked(u8::try_from(value).map(|v| [v]).map_err(|_| outside())),
            DataType::Int8 => self.push_checked(i8::try_from(value).map(i8::to_le_bytes).map_err(|_| outside())),
            DataType::Int32 => self.push_checked(i32::try_from(value).map(i32::to_le_bytes).map_err(|_| outside())),
            DataType::Int64 => self.push(&value.to_le_bytes()),
            DataType::Bytes => Err(E::custom(format!("{value} is no string"))),
        }
    }

    fn push_checked<E: Error, const N: usize>(self, bytes: Result<[u8; N], E>) -> Result<(), E> {
        self.push(&bytes?)
    }
}

impl<'de> DeserializeSeed<'de> for Fill<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Fill<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.depth {
            0 => write!(f, "a list of {} elements", self.datatype),
            _ => write!(f, "elements of {}, or lists of them", self.datatype),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        if self.depth == MOST_DIMENSIONS {
            return Err(A::Error::custom(format!("lists are nested deeper than {MOST_DIMENSIONS}")));
        }
        let (datatype, depth) = (self.datatype, self.depth + 1);
        while items.next_element_seed(Fill { datatype, out: self.out, found: self.found, depth })?.is_some() {}
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.integer(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.integer(value),
            Err(_) if self.datatype == DataType::Fp32 => self.push(&(value as f32).to_le_bytes()),
            Err(_) => Err(E::custom(format!("{value} is outside {}", self.datatype))),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        let near = value as f32;
        match self.datatype {
            DataType::Fp32 if near.is_finite() => self.push(&near.to_le_bytes()),
            DataType::Fp32 => Err(E::custom(format!("{value} is outside FP32"))),
            _ => Err(E::custom(format!("{value:?} is not {}", self.datatype))),
        }
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        match self.datatype {
            DataType::Bytes => {
                push_string(self.out, value.as_bytes());
                *self.found += 1;
                Ok(())
            }
            _ => Err(E::custom(format!("a string is not {}", self.datatype))),
        }
    }
}

/// Writes a tensor's elements as a flat JSON list. Floats have the fewest digits that read back as the same float; what is not finite
/// becomes `null`.
///
/// # Errors
///
/// The serializer's; and for strings that are not UTF-8, which only the binary form holds.
pub fn to_json<S: Serializer>(tensor: &NamedTensor, to: S) -> Result<S::Ok, S::Error> {
    fn list<S: Serializer, T: serde::Serialize, const N: usize>(
        data: &[u8],
        to: S,
        of: impl Fn([u8; N]) -> T,
    ) -> Result<S::Ok, S::Error> {
        let (items, _) = data.as_chunks::<N>();
        let mut seq = to.serialize_seq(Some(items.len()))?;
        for item in items {
            seq.serialize_element(&of(*item))?;
        }
        seq.end()
    }
    let data = &tensor.data[..];
    match tensor.datatype {
        DataType::Fp32 => list(data, to, f32::from_le_bytes),
        DataType::Uint8 => list(data, to, |[v]: [u8; 1]| v),
        DataType::Int8 => list(data, to, i8::from_le_bytes),
        DataType::Int32 => list(data, to, i32::from_le_bytes),
        DataType::Int64 => list(data, to, i64::from_le_bytes),
        DataType::Bytes => {
            let mut seq = to.serialize_seq(None)?;
            for string in strings(data) {
                let text = string.and_then(|s| std::str::from_utf8(s).ok()).ok_or_else(|| {
                    serde::ser::Error::custom(format!("output '{}' is not text: ask for it in binary", tensor.name))
                })?;
                seq.serialize_element(text)?;
            }
            seq.end()
        }
    }
}

/// A name of a client within a message, cut where it is long.
pub fn short(name: &str) -> String {
    match name.char_indices().nth(64) {
        None => name.to_string(),
        Some((end, _)) => format!("{}...", &name[..end]),
    }
}

/// The client's mistake.
pub fn invalid(message: impl Into<String>) -> ServeError {
    ServeError::new(Kind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tensor(datatype: DataType, data: Bytes) -> NamedTensor {
        NamedTensor { name: "y".into(), datatype, shape: vec![], data }
    }

    fn json(tensor: &NamedTensor) -> Result<String, String> {
        let mut text = Vec::new();
        to_json(tensor, &mut serde_json::Serializer::new(&mut text)).map_err(|e| e.to_string())?;
        Ok(String::from_utf8(text).unwrap())
    }

    #[test]
    fn elements_that_a_type_holds_and_that_it_does_not() {
        use DataType::{Bytes as Strings, Fp32, Int8, Int32, Int64, Uint8};
        type Case<'a> = (DataType, usize, &'a str, Result<&'a [u8], &'a str>);
        let cases: [Case; 25] = [
            (Uint8, 3, "[0, 7, 255]", Ok(&[0, 7, 255])),
            (Uint8, 4, "[[0, 1], [2, 3]]", Ok(&[0, 1, 2, 3])),
            (Uint8, 0, "[]", Ok(&[])),
            (Uint8, 1, "[256]", Err("256 is outside UINT8")),
            (Uint8, 1, "[-1]", Err("-1 is outside UINT8")),
            (Uint8, 1, "[1.0]", Err("1.0 is not UINT8")),
            (Uint8, 2, "[1]", Err("2 elements, 1 came")),
            (Uint8, 1, "[1, 2]", Err("1 elements, 2 came")),
            (Uint8, 1, "[true]", Err("boolean")),
            (Uint8, 1, "[null]", Err("null")),
            (Uint8, 1, "{\"a\": 1}", Err("no list of UINT8")),
            (Uint8, 1, "[\"1\"]", Err("a string is not UINT8")),
            (Uint8, 1, "[[[[[[[[[1]]]]]]]]]", Err("deeper than 8")),
            (Int8, 2, "[-128, 127]", Ok(&[128, 127])),
            (Int8, 1, "[128]", Err("128 is outside INT8")),
            (Int32, 1, "[-2]", Ok(&[254, 255, 255, 255])),
            (Int32, 1, "[2147483648]", Err("outside INT32")),
            (Int64, 1, "[1]", Ok(&[1, 0, 0, 0, 0, 0, 0, 0])),
            (Int64, 1, "[18446744073709551615]", Err("outside INT64")),
            (Fp32, 1, "[1]", Ok(&[0, 0, 128, 63])),
            (Fp32, 1, "[1.0]", Ok(&[0, 0, 128, 63])),
            (Fp32, 1, "[1e39]", Err("outside FP32")),
            (Fp32, 1, "[NaN]", Err("expected value")),
            (Strings, 2, "[\"a\", \"\"]", Ok(&[1, 0, 0, 0, b'a', 0, 0, 0, 0])),
            (Strings, 1, "[1]", Err("1 is no string")),
        ];
        for (datatype, count, text, want) in cases {
            match (from_json("x", datatype, count, text), want) {
                (Ok(got), Ok(want)) => assert_eq!(&got[..], want, "{datatype} {text}"),
                (Err(e), Err(part)) => {
                    assert_eq!(e.kind, Kind::Invalid);
                    assert!(e.message.contains(part) && e.message.contains("'x'"), "{text}: {e}");
                }
                (got, want) => panic!("{datatype} {text}: {got:?} instead of {want:?}"),
            }
        }
    }

    #[test]
    fn sizes() {
        for (dims, want) in [
            (&[2i64, 3][..], Ok(6)),
            (&[0, 3], Ok(0)),
            (&[], Err("0 dimensions")),
            (&[1; 9], Err("9 dimensions")),
            (&[1, -1], Err("dimension -1")),
            (&[i64::MAX, 2], Err("memory")),
            (&[1 << 32, 1 << 32], Err("memory")),
            (&[0, i64::MAX], Ok(0)),
        ] {
            match (shape("x", dims), want) {
                (Ok((_, count)), Ok(n)) => assert_eq!(count, n, "{dims:?}"),
                (Err(e), Err(part)) => assert!(e.message.contains(part), "{dims:?}: {e}"),
                (got, want) => panic!("{dims:?}: {got:?} instead of {want:?}"),
            }
        }
        for (datatype, count, data, ok) in [
            (DataType::Fp32, 2, &[0u8; 8][..], true),
            (DataType::Fp32, 2, &[0; 7], false),
            (DataType::Bytes, 1, &[1, 0, 0, 0, 9], true),
            (DataType::Bytes, 2, &[1, 0, 0, 0, 9], false),
            (DataType::Bytes, 1, &[2, 0, 0, 0, 9], false),
            (DataType::Bytes, 1, &[2, 0, 0], false),
            (DataType::Bytes, 1, &[255, 255, 255, 255, 9], false),
            (DataType::Bytes, 0, &[], true),
        ] {
            assert_eq!(check("x", datatype, count, data).is_ok(), ok, "{datatype} {count} {data:?}");
        }
    }

    #[test]
    fn what_json_cannot_say() {
        let nan = tensor(DataType::Fp32, Bytes::copy_from_slice(&f32::NAN.to_le_bytes()));
        assert_eq!(json(&nan).unwrap(), "[null]");
        let binary = tensor(DataType::Bytes, Bytes::from_static(&[1, 0, 0, 0, 255]));
        assert!(json(&binary).unwrap_err().contains("binary"));
        assert!(json(&tensor(DataType::Bytes, Bytes::from_static(&[9]))).is_err());
    }

    proptest! {
        #[test]
        fn floats_come_back_bit_by_bit(bits in proptest::collection::vec(any::<u32>(), 0..50)) {
            let bits: Vec<u32> = bits.into_iter().filter(|&b| f32::from_bits(b).is_finite()).collect();
            let data: Bytes = bits.iter().flat_map(|b| b.to_le_bytes()).collect();
            let text = json(&tensor(DataType::Fp32, data.clone())).unwrap();
            prop_assert_eq!(from_json("y", DataType::Fp32, bits.len(), &text).unwrap(), data);
        }

        #[test]
        fn integers_and_strings_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..64), text in ".{0,20}") {
            for datatype in [DataType::Uint8, DataType::Int8, DataType::Int32, DataType::Int64] {
                let size = datatype.size().unwrap();
                let data = Bytes::copy_from_slice(&bytes[..bytes.len() / size * size]);
                let text = json(&tensor(datatype, data.clone())).unwrap();
                prop_assert_eq!(from_json("y", datatype, data.len() / size, &text).unwrap(), data);
            }
            let mut data = BytesMut::new();
            push_string(&mut data, text.as_bytes());
            let data = data.freeze();
            let json = json(&tensor(DataType::Bytes, data.clone())).unwrap();
            prop_assert_eq!(from_json("y", DataType::Bytes, 1, &json).unwrap(), data);
        }

        #[test]
        fn no_text_does_harm(text in "[\\[\\]0-9eE+.,\"{}:a-]{0,40}", count in 0usize..5) {
            for datatype in DataType::ALL {
                if let Ok(data) = from_json("x", datatype, count, &text) {
                    prop_assert!(check("x", datatype, count, &data).is_ok());
                }
            }
        }
    }
}
