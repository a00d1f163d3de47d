//! Output files: whole or not at all.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::exit::Failure;

/// Writes a file under a temporary name beside it and renames it when complete, so that nobody ever sees half of it.
/// Something that exists and is not a regular file (`/dev/null`, a pipe) is written to directly.
pub fn write_whole(path: &Path, fill: impl FnOnce(&mut dyn WriteSeek) -> io::Result<()>) -> Result<(), Failure> {
    write(path, fill).map_err(|error| Failure::output(path, &error))
}

/// What files and buffers have in common; a zip archive needs both.
pub trait WriteSeek: Write + io::Seek {}
impl<T: Write + io::Seek> WriteSeek for T {}

fn write(path: &Path, fill: impl FnOnce(&mut dyn WriteSeek) -> io::Result<()>) -> io::Result<()> {
    // A link is followed: the file it names is replaced, not the link.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    if let Ok(meta) = fs::metadata(path)
        && !meta.is_file()
    {
        if meta.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let mut buffer = io::Cursor::new(Vec::new());
        fill(&mut buffer)?;
        return fs::OpenOptions::new().write(true).open(path)?.write_all(buffer.get_ref());
    }
    let directory = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Err(io::ErrorKind::IsADirectory.into()),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".akida-").suffix(".tmp");
    // The mode an ordinary new file gets (the kernel takes the umask off), not the private one of temporary files.
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = BufWriter::new(builder.tempfile_in(directory)?);
    fill(&mut file)?;
    let file = file.into_inner().map_err(|e| e.into_error())?;
    file.as_file().sync_data()?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_temporary_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        write_whole(&path, |f| f.write_all(b"old")).unwrap();
        let failed = write_whole(&path, |f| {
            f.write_all(b"half of the new")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert_eq!(failed.unwrap_err().exit, crate::exit::Exit::Io);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_new_file_has_ordinary_permissions() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, plain) = (dir.path().join("ours"), dir.path().join("plain"));
        write_whole(&ours, |f| f.write_all(b"x")).unwrap();
        fs::write(&plain, b"x").unwrap();
        let mode = |p| fs::metadata(p).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }

    #[test]
    fn devices_and_links_are_written_through() {
        write_whole(Path::new("/dev/null"), |f| f.write_all(b"x")).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::write(&real, b"old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        write_whole(&link, |f| f.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&real).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }
}
