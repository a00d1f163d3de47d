//! gzip and deflate of bodies, as clients offer them. What is unpacked is held to the same limits as what is sent.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::{GzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};

use crate::error::{Kind, ServeError};
use crate::net::body::Collected;
use crate::tensor::{invalid, short};

/// What bodies may be packed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// gzip.
    Gzip,
    /// What HTTP calls deflate: zlib.
    Deflate,
}

impl Encoding {
    /// HTTP's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Encoding::Gzip => "gzip",
            Encoding::Deflate => "deflate",
        }
    }
}

/// Smaller answers do not shrink.
const SMALLEST: usize = 1024;

/// What a request's body is packed with.
///
/// # Errors
///
/// [`Kind::Invalid`] for anything else than gzip and deflate.
pub fn of_request(headers: &HeaderMap) -> Result<Option<Encoding>, ServeError> {
    match headers.get(CONTENT_ENCODING).map(|v| v.as_bytes()) {
        None | Some(b"" | b"identity") => Ok(None),
        Some(b"gzip" | b"x-gzip") => Ok(Some(Encoding::Gzip)),
        Some(b"deflate") => Ok(Some(Encoding::Deflate)),
        Some(other) => {
            let other = short(&String::from_utf8_lossy(other));
            Err(invalid(format!("the content encoding '{other}' is none of gzip, deflate, identity")))
        }
    }
}

/// What an answer of this size is packed with: the first the client names that there is.
pub fn of_answer(headers: &HeaderMap, length: usize) -> Option<Encoding> {
    if length < SMALLEST {
        return None;
    }
    let accepted = headers.get(ACCEPT_ENCODING)?.to_str().ok()?;
    accepted.split(',').find_map(|item| {
        let (name, quality) = item.split_once(';').unwrap_or((item, ""));
        let refused = quality.trim().strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0));
        match name.trim() {
            _ if refused => None,
            "gzip" => Some(Encoding::Gzip),
            "deflate" => Some(Encoding::Deflate),
            _ => None,
        }
    })
}

/// Unpacks a body to at most `most` bytes.
///
/// # Errors
///
/// [`Kind::TooLarge`], [`Kind::Invalid`] for damaged data, [`Kind::Busy`] when all clients hold too much.
pub fn unpack(body: Collected, encoding: Encoding, most: usize) -> Result<Collected, ServeError> {
    let Collected { bytes: packed, mut claim } = body;
    let mut reader: Box<dyn Read> = match encoding {
        Encoding::Gzip => Box::new(GzDecoder::new(&packed[..])),
        Encoding::Deflate => Box::new(ZlibDecoder::new(&packed[..])),
    };
    let (mut out, mut piece) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let read =
            reader.read(&mut piece).map_err(|e| invalid(format!("the body is no {}: {e}", encoding.as_str())))?;
        if read == 0 {
            break;
        }
        if out.len() + read > most {
            let message = format!("the body unpacks to more than {most} bytes, the limit; send smaller batches");
            return Err(ServeError::new(Kind::TooLarge, message));
        }
        claim.grow(read)?;
        out.extend_from_slice(&piece[..read]);
    }
    drop(reader);
    Ok(Collected { bytes: out.into(), claim })
}

/// Packs an answer, fast rather than small.
pub fn pack(bytes: &[u8], encoding: Encoding) -> std::io::Result<Bytes> {
    let level = Compression::fast();
    let packed = match encoding {
        Encoding::Gzip => {
            let mut writer = GzEncoder::new(Vec::new(), level);
            writer.write_all(bytes)?;
            writer.finish()?
        }
        Encoding::Deflate => {
            let mut writer = ZlibEncoder::new(Vec::new(), level);
            writer.write_all(bytes)?;
            writer.finish()?
        }
    };
    Ok(packed.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Memory;

    #[test]
    fn what_is_packed_unpacks_within_limits() {
        let text = vec![7u8; 100_000];
        for encoding in [Encoding::Gzip, Encoding::Deflate] {
            let packed = pack(&text, encoding).unwrap();
            assert!(packed.len() < 1000);
            let memory = Memory::new(150_000);
            let body = |bytes: Bytes| Collected { bytes, claim: memory.claim() };
            assert_eq!(&unpack(body(packed.clone()), encoding, 100_000).unwrap().bytes[..], &text[..]);
            assert_eq!(unpack(body(packed.clone()), encoding, 99_999).unwrap_err().kind, Kind::TooLarge);
            let held = unpack(body(packed.clone()), encoding, 100_000).unwrap();
            assert_eq!(unpack(body(packed.clone()), encoding, 100_000).unwrap_err().kind, Kind::Busy);
            drop(held);
            let cut = packed.slice(..packed.len() / 2);
            assert_eq!(unpack(body(cut), encoding, 100_000).unwrap_err().kind, Kind::Invalid);
            assert_eq!(memory.used(), 0);
        }
    }

    #[test]
    fn encodings_that_are_asked_for() {
        let headers = |name, value: &str| HeaderMap::from_iter([(name, value.parse().unwrap())]);
        for (value, want) in [
            ("gzip", Some(Encoding::Gzip)),
            ("br, deflate;q=0.5, gzip", Some(Encoding::Deflate)),
            ("gzip;q=0, deflate", Some(Encoding::Deflate)),
            ("br", None),
            ("identity", None),
        ] {
            assert_eq!(of_answer(&headers(ACCEPT_ENCODING, value), 5000), want, "{value}");
        }
        assert_eq!(of_answer(&headers(ACCEPT_ENCODING, "gzip"), 100), None);
        assert!(of_request(&headers(CONTENT_ENCODING, "br")).is_err());
        assert_eq!(of_request(&HeaderMap::new()).unwrap(), None);
    }
}
