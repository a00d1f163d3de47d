//! A look at the header of a `.npy` file before it is decoded: element type and size, so that a file cannot ask for
//! more memory than it has bytes (format: NEP 1, <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>).

/// Longest header that is looked at. NumPy's own limit is 10,000 characters.
pub const MAX_HEADER: usize = 64 * 1024;

/// What the header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Element type as NumPy writes it, for example `<f4`.
    pub descr: String,
    /// Bytes from the start of the file to the first element.
    pub data_at: usize,
    /// Bytes of all elements.
    pub data_len: usize,
}

/// Reads the header at the start of `bytes`, of which [`MAX_HEADER`] + 16 are enough.
pub fn peek(bytes: &[u8]) -> Result<Header, String> {
    let prefix = bytes.get(..8).ok_or("it ends inside the header")?;
    if prefix[..6] != *b"\x93NUMPY" {
        return Err("it does not start with \\x93NUMPY".into());
    }
    let (start, len) = match (prefix[6], &bytes[8..]) {
        (1, &[a, b, ..]) => (10, usize::from(u16::from_le_bytes([a, b]))),
        (2 | 3, &[a, b, c, d, ..]) => (12, u32::from_le_bytes([a, b, c, d]) as usize),
        (1..=3, _) => return Err("it ends inside the header".into()),
        (version, _) => return Err(format!("format version {version} is not known")),
    };
    if len > MAX_HEADER {
        return Err(format!("its header is said to have {len} bytes; no array needs more than {MAX_HEADER}"));
    }
    let text = bytes.get(start..start + len).ok_or("it ends inside the header")?;
    let text = std::str::from_utf8(text).map_err(|_| "its header is not text")?;
    let descr = after(text, "descr")
        .and_then(|t| t.split(['\'', '"']).nth(1))
        .ok_or("its header names no element type")?
        .to_string();
    let size: usize = match descr.get(2..).map(str::parse) {
        Some(Ok(size @ 1..=16)) => size,
        _ => return Err(format!("element type {descr:?} is not a number")),
    };
    let shape = after(text, "shape")
        .and_then(|t| t.split_once('('))
        .and_then(|(_, t)| t.split_once(')'))
        .map(|(dims, _)| dims)
        .ok_or("its header names no shape")?;
    let data_len = shape
        .split(',')
        .map(|d| d.trim().trim_end_matches('L'))
        .filter(|d| !d.is_empty())
        .try_fold(size, |all, d| all.checked_mul(d.parse().ok()?))
        .ok_or_else(|| format!("its shape ({shape}) is too large or not a shape"))?;
    Ok(Header { descr, data_at: start + len, data_len })
}

/// The text after `'key':`.
fn after<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    [format!("'{key}':"), format!("\"{key}\":")].iter().find_map(|k| text.split_once(k)).map(|(_, t)| t)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(version: u8, header: &str) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY".to_vec();
        bytes.extend([version, 0]);
        match version {
            1 => bytes.extend((header.len() as u16).to_le_bytes()),
            _ => bytes.extend((header.len() as u32).to_le_bytes()),
        }
        bytes.extend(header.as_bytes());
        bytes
    }

    #[test]
    fn says_how_many_bytes_follow() {
        for (dict, descr, len) in [
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (128, 1, 28, 28), }", "<f4", 128 * 784 * 4),
            ("{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }", "|u1", 3),
            ("{'shape': (), 'descr': '>i8', 'fortran_order': True}", ">i8", 8),
            ("{'descr': '<i4', 'fortran_order': False, 'shape': (0, 5), }", "<i4", 0),
        ] {
            for version in 1..=3 {
                let got = peek(&file(version, dict)).unwrap();
                assert_eq!((got.descr.as_str(), got.data_len), (descr, len));
                assert_eq!(got.data_at, file(version, dict).len());
            }
        }
    }

    #[test]
    fn refuses_what_it_cannot_bound() {
        let mut long = file(2, "");
        long[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        let fine = file(1, "{'descr': '<f4', 'shape': (1,)}");
        let cases: [(&[u8], &str); 9] = [
            (b"", "ends inside"),
            (b"PK\x03\x04whatever", "does not start"),
            (&file(9, ""), "version 9"),
            (&long, "4294967295 bytes"),
            (&fine[..fine.len() - 1], "ends inside"),
            (&file(1, "{'shape': (1,)}"), "no element type"),
            (&file(1, "{'descr': '|O', 'shape': (1,)}"), "not a number"),
            (&file(1, "{'descr': '<f4'}"), "no shape"),
            (&file(1, "{'descr': '<f4', 'shape': (4294967296, 4294967296, 4)}"), "too large"),
        ];
        for (bytes, message) in cases {
            let error = peek(bytes).unwrap_err();
            assert!(error.contains(message), "{error:?} lacks {message:?}");
        }
    }
}
