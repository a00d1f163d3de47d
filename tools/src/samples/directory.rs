//! A directory of images, in the order of their names.

use std::path::{Path, PathBuf};

use ndarray::{ArrayD, Axis, concatenate};

use super::{Expected, file_name, images};
use crate::exit::{Exit, Failure};

/// Reads all PNG and JPEG files of a directory (not of those below it): pixels (batch, height, width, channels) and
/// the file names. Numbers in names count as numbers: `9.png` comes before `10.png`.
pub fn read(path: &Path, expected: &Expected, resize: bool) -> Result<(ArrayD<u8>, Vec<String>), Failure> {
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|e| Failure::input(path, &e))? {
        let file = entry.map_err(|e| Failure::input(path, &e))?.path();
        let extension = file.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
        if file.is_file() && ["png", "jpg", "jpeg"].contains(&extension.as_str()) {
            files.push(file);
        }
    }
    if files.is_empty() {
        let what = format!("{} has no .png, .jpg or .jpeg files", path.display());
        return Err(Failure::new(Exit::NoInput, what, "name a directory that holds the images themselves"));
    }
    files.sort_by_cached_key(|f| natural(&file_name(f)));
    let images = files.iter().map(|f| images::read(f, expected, resize)).collect::<Result<Vec<_>, _>>()?;
    let views: Vec<_> = images.iter().map(|i| i.view()).collect();
    let all = concatenate(Axis(0), &views)
        .map_err(|e| Failure::because(Exit::Internal, path.display(), &e, "please report this"))?;
    Ok((all, files.iter().map(|f| file_name(f)).collect()))
}

/// Sorts text and numbers by turns.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let text = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(text);
        let digits = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        let (number, tail) = tail.split_at(digits);
        parts.push((word.to_string(), number.parse().unwrap_or(if number.is_empty() { 0 } else { u64::MAX })));
        rest = tail;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use akida_runtime::model::OnnxLayout;

    #[test]
    fn images_come_in_the_order_a_person_expects() {
        let dir = tempfile::tempdir().unwrap();
        for n in [10u8, 9, 100] {
            let image = image::GrayImage::from_raw(1, 1, vec![n]).unwrap();
            image.save(dir.path().join(format!("digit{n}.png"))).unwrap();
        }
        std::fs::write(dir.path().join("notes.txt"), "x").unwrap();
        let expected = Expected { shape: [1, 1, 1], layout: OnnxLayout::Nchw, signed: false };
        let (pixels, names) = read(dir.path(), &expected, false).unwrap();
        assert_eq!(pixels.as_slice().unwrap(), [9, 10, 100]);
        assert_eq!(names, ["digit9.png", "digit10.png", "digit100.png"]);
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(read(empty.path(), &expected, false).unwrap_err().exit, Exit::NoInput);
    }
}
