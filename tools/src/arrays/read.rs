//! Reading. A file is believed only as far as it has bytes: memory is bounded by the file's own length (or, inside a
//! compressed archive, by [`MAX_ARRAY`]).

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use ndarray::{ArrayD, IxDyn};
use ndarray_npy::{ReadNpyExt, ReadableElement};
use zip::ZipArchive;

use super::Array;
use super::header::{self, MAX_HEADER, peek};
use crate::exit::{Exit, Failure};

/// Largest array that is taken, in bytes.
pub const MAX_ARRAY: usize = 4 << 30;

/// Reads a `.npy` file.
pub fn read_file(path: &Path) -> Result<Array, Failure> {
    let file = File::open(path).map_err(|e| Failure::input(path, &e))?;
    let what = path.display().to_string();
    decode(BufReader::new(file), &what).map_err(|e| e.into_failure(path, &what))
}

/// An open `.npz` file.
pub struct Archive {
    path: PathBuf,
    zip: ZipArchive<BufReader<File>>,
    names: Vec<String>,
}

impl Archive {
    /// Opens the archive and reads its directory.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|e| Failure::input(path, &e))?;
        let zip = ZipArchive::new(BufReader::new(file)).map_err(|e| damaged(&path.display().to_string(), &e))?;
        let names = zip.file_names().map(|n| n.strip_suffix(".npy").unwrap_or(n).to_string()).collect();
        Ok(Self { path: path.to_path_buf(), zip, names })
    }

    /// Names of the arrays, in the order of the file.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Reads one array, None when there is none of that name.
    pub fn get(&mut self, name: &str) -> Result<Option<Array>, Failure> {
        let what = format!("array {name} of {}", self.path.display());
        let Some(index) = self.names.iter().position(|n| n == name) else { return Ok(None) };
        let entry = self.zip.by_index(index).map_err(|e| damaged(&what, &e))?;
        decode(entry, &what).map(Some).map_err(|e| e.into_failure(&self.path, &what))
    }
}

enum DecodeError {
    Io(std::io::Error),
    Data(String),
}

impl DecodeError {
    fn into_failure(self, path: &Path, what: &str) -> Failure {
        match self {
            // A zip entry that does not inflate or has the wrong checksum.
            DecodeError::Io(e) if e.raw_os_error().is_none() => damaged(what, &e),
            DecodeError::Io(e) => Failure::input(path, &e),
            DecodeError::Data(message) => Failure::new(
                Exit::Data,
                format!("{what} is not a usable NumPy array: {message}"),
                "write it again with numpy.save or numpy.savez as float32, uint8, int8, int32 or int64",
            ),
        }
    }
}

fn damaged(what: &str, error: &dyn std::error::Error) -> Failure {
    Failure::because(Exit::Data, format_args!("{what} is damaged"), error, "get or make the file again")
}

fn decode(mut reader: impl Read, what: &str) -> Result<Array, DecodeError> {
    let mut bytes = Vec::new();
    reader.by_ref().take(MAX_HEADER as u64 + 16).read_to_end(&mut bytes).map_err(DecodeError::Io)?;
    let header = peek(&bytes).map_err(DecodeError::Data)?;
    if header.data_len > MAX_ARRAY {
        let header::Header { data_len, .. } = header;
        return Err(DecodeError::Data(format!("its elements take {data_len} bytes, the limit is {MAX_ARRAY}")));
    }
    // One byte more than promised shows trailing bytes; the buffer grows only as bytes arrive.
    let total = header.data_at + header.data_len;
    let rest = (total + 1).saturating_sub(bytes.len());
    reader.take(rest as u64).read_to_end(&mut bytes).map_err(DecodeError::Io)?;
    if bytes.len() != total {
        let word = if bytes.len() < total { "ends early" } else { "has trailing bytes" };
        return Err(DecodeError::Data(format!("it {word}: header and shape promise {total} bytes")));
    }
    log::debug!("{what}: {} with {} bytes of elements", header.descr, header.data_len);
    Ok(match header.descr.get(1..) {
        Some("f4") => Array::F32(elements(&bytes)?),
        Some("f8") => Array::F64(elements(&bytes)?),
        Some("u1") => Array::U8(elements(&bytes)?),
        Some("i1") => Array::I8(elements(&bytes)?),
        Some("i4") => Array::I32(elements(&bytes)?),
        Some("i8") => Array::I64(elements(&bytes)?),
        _ => return Err(DecodeError::Data(format!("element type {:?} is not supported", header.descr))),
    })
}

fn elements<T: ReadableElement + Clone>(bytes: &[u8]) -> Result<ArrayD<T>, DecodeError> {
    let array = ArrayD::<T>::read_npy(bytes).map_err(|e| DecodeError::Data(crate::exit::chain(&e)))?;
    // Fortran order is legal in files; everything behind this point may rely on row-major memory.
    if array.is_standard_layout() {
        return Ok(array);
    }
    let shape = IxDyn(array.shape());
    ArrayD::from_shape_vec(shape, array.iter().cloned().collect()).map_err(|e| DecodeError::Data(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::{npy_bytes, write_npz};
    use super::*;
    use ndarray::array;
    use std::fs;

    #[test]
    fn archives_come_back_as_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npz");
        let arrays = [
            ("f", Array::F32(array![[1.5f32, -2.0]].into_dyn())),
            ("u", Array::U8(array![1u8, 255].into_dyn())),
            ("i", Array::I8(array![-128i8].into_dyn())),
            ("l", Array::I64(array![[[7i64]]].into_dyn())),
        ];
        write_npz(&path, arrays.iter().map(|(n, a)| (n.to_string(), a))).unwrap();
        let mut archive = Archive::open(&path).unwrap();
        for (name, array) in &arrays {
            assert_eq!(archive.get(name).unwrap().as_ref(), Some(array));
        }
        assert!(archive.get("absent").unwrap().is_none());
    }

    #[test]
    fn fortran_and_big_endian_files_mean_the_same_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        let header = "{'descr': '>f4', 'fortran_order': True, 'shape': (2, 3), }\n";
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        for v in [0f32, 3.0, 1.0, 4.0, 2.0, 5.0] {
            bytes.extend(v.to_be_bytes());
        }
        fs::write(&path, &bytes).unwrap();
        let Array::F32(a) = read_file(&path).unwrap() else { panic!("float32 expected") };
        assert_eq!(a.as_slice().unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    }

    #[test]
    fn damage_is_refused_everywhere() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let npy = npy_bytes(&Array::F32(ndarray::ArrayD::zeros(vec![4, 3]))).unwrap();
        for len in 0..npy.len() {
            fs::write(&path, &npy[..len]).unwrap();
            assert_eq!(read_file(&path).unwrap_err().exit, Exit::Data, "cut at {len}");
        }
        let mut long = npy.clone();
        long.push(0);
        fs::write(&path, &long).unwrap();
        assert_eq!(read_file(&path).unwrap_err().exit, Exit::Data);

        let npz = dir.path().join("a.npz");
        write_npz(&npz, [("x".to_string(), &Array::U8(ndarray::ArrayD::from_elem(vec![300], 7)))]).unwrap();
        let good = fs::read(&npz).unwrap();
        for len in 0..good.len() {
            fs::write(&path, &good[..len]).unwrap();
            let read = Archive::open(&path).and_then(|mut a| a.get("x"));
            assert_eq!(read.unwrap_err().exit, Exit::Data, "cut at {len}");
        }
        assert_eq!(read_file(Path::new("/nonexistent.npy")).unwrap_err().exit, Exit::NoInput);
    }
}
