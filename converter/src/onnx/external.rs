//! Tensor data in files beside the model.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;

use super::OnnxError;
use super::proto::StringStringEntryProto;

/// Finds the file a tensor's `external_data` names, which must lie in `folder`, and where in it the data starts.
/// `need` is the number of bytes the dimensions say. The error is the reason, for the caller to name the tensor.
pub(super) fn locate(
    entries: &[StringStringEntryProto],
    folder: Option<&Path>,
    need: u64,
) -> Result<(PathBuf, u64), String> {
    let entry = |key: &str| {
        entries
            .iter()
            .find(|e| e.key.as_deref() == Some(key))
            .and_then(|e| e.value.as_deref())
            .filter(|v| !v.is_empty())
    };
    let number = |key: &str| match entry(key) {
        None => Ok(None),
        Some(text) => {
            text.parse::<u64>().map(Some).map_err(|_| format!("external data: {key} '{text}' is not a number of bytes"))
        }
    };
    let location = entry("location").ok_or("external data without a location")?;
    let relative = Path::new(location);
    if relative.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(format!("external data '{location}' is not inside the model's folder"));
    }
    let folder = folder.ok_or_else(|| format!("external data '{location}', but the model did not come from a file"))?;
    let real = |path: &Path| path.canonicalize().map_err(|e| format!("external data '{location}': {e}"));
    let path = real(&folder.join(relative))?;
    if !path.starts_with(real(folder)?) {
        return Err(format!("external data '{location}' is a link that leaves the model's folder"));
    }
    let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
    if let Some(length) = length.filter(|&length| length != need) {
        return Err(format!("external data '{location}' has {length} bytes for it, its dimensions need {need}"));
    }
    let size = path.metadata().map_err(|e| format!("external data '{location}': {e}"))?;
    if !size.is_file() {
        return Err(format!("external data '{location}' is not a regular file"));
    }
    if offset.checked_add(need).is_none_or(|end| end > size.len()) {
        let size = size.len();
        return Err(format!("external data '{location}' has {size} bytes, {need} are needed from offset {offset}"));
    }
    Ok((path, offset))
}

/// Reads `len` bytes at `offset`.
pub(super) fn read(path: &Path, offset: u64, len: usize) -> Result<Bytes, OnnxError> {
    let fail = |source| OnnxError::Io { path: path.to_owned(), action: "reading external tensor data", source };
    let mut file = File::open(path).map_err(fail)?;
    // The file may have shrunk since it was checked: never allocate for bytes it does not have.
    let have = file.metadata().map_err(fail)?.len();
    if offset.checked_add(len as u64).is_none_or(|end| end > have) {
        return Err(fail(std::io::ErrorKind::UnexpectedEof.into()));
    }
    file.seek(SeekFrom::Start(offset)).map_err(fail)?;
    let mut bytes = vec![0; len];
    file.read_exact(&mut bytes).map_err(fail)?;
    Ok(bytes.into())
}
