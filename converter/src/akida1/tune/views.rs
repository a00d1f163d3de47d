//! More samples out of few: calibration samples moved, faded, mixed and with noise. No labels are needed, the float
//! network says what is right for each of them.

use super::random::Random;
use crate::akida1::maps::Map;

/// Makes views of samples.
pub struct Views<'a> {
    /// (height, width, channels).
    pub shape: [usize; 3],
    /// The samples, by reference.
    pub samples: Vec<&'a Map>,
    low: f32,
    high: f32,
}

/// Below this many pixels in a direction a sample is no image.
const IMAGE: usize = 5;

impl<'a> Views<'a> {
    /// Of these samples.
    pub fn new(shape: [usize; 3], samples: Vec<&'a Map>) -> Self {
        let range = |range: (f32, f32), x: &f32| (range.0.min(*x), range.1.max(*x));
        let (low, high) = samples.iter().flat_map(|s| s.iter()).fold((f32::INFINITY, f32::NEG_INFINITY), range);
        Self { shape, samples, low, high }
    }

    /// Number `number` of the endless row of views, always the same.
    pub fn view(&self, number: u64) -> Map {
        let random = &mut Random::new(0x51ed_270b, number);
        let mut view = self.one(random);
        if random.unit() < 0.15 {
            let (other, part) = (self.one(random), 0.5 * random.unit());
            view.iter_mut().zip(other).for_each(|(x, y)| *x += part * (y - *x));
        }
        view
    }

    fn one(&self, random: &mut Random) -> Map {
        let sample = self.samples[random.below(self.samples.len())];
        if random.unit() < 0.1 {
            return sample.clone();
        }
        let image = self.shape[0] >= IMAGE && self.shape[1] >= IMAGE;
        let mut view = if image { self.moved(sample, random) } else { sample.clone() };
        if random.unit() < 0.5 {
            let base = view.iter().fold(f32::INFINITY, |m, x| m.min(*x));
            let part = 0.5 + 0.6 * random.unit();
            view.iter_mut().for_each(|x| *x = base + (*x - base) * part);
        }
        if random.unit() < 0.5 {
            let deviation = 0.12 * random.unit() * (self.high - self.low);
            view.iter_mut().for_each(|x| *x += deviation * random.normal());
        }
        view.iter_mut().for_each(|x| *x = x.clamp(self.low, self.high));
        view
    }

    /// Turned, scaled, sheared and shifted a little; what comes from outside the map is the pixel at its edge.
    fn moved(&self, sample: &Map, random: &mut Random) -> Map {
        let [height, width, channels] = self.shape;
        let angle = f64::from(0.26 * random.around());
        let (sin, cos) = (libm::sin(angle) as f32, libm::cos(angle) as f32);
        let (across, down) = (1.0 + 0.15 * random.around(), 1.0 + 0.15 * random.around());
        let shear = 0.15 * random.around();
        let (right, below) = (0.08 * random.around() * width as f32, 0.08 * random.around() * height as f32);
        let (middle_y, middle_x) = ((height - 1) as f32 / 2.0, (width - 1) as f32 / 2.0);
        let mut moved = Vec::with_capacity(sample.len());
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let (dy, dx) = (y as f32 - middle_y - below, x as f32 - middle_x - right);
            let dx = dx + shear * dy;
            let from_y = ((cos * dy - sin * dx) * down + middle_y).clamp(0.0, (height - 1) as f32);
            let from_x = ((sin * dy + cos * dx) * across + middle_x).clamp(0.0, (width - 1) as f32);
            let (top, left) = (from_y as usize, from_x as usize);
            let (bottom, beside) = ((top + 1).min(height - 1), (left + 1).min(width - 1));
            let (part_y, part_x) = (from_y - top as f32, from_x - left as f32);
            for c in 0..channels {
                let at = |y: usize, x: usize| sample[(y * width + x) * channels + c];
                let upper = at(top, left) + part_x * (at(top, beside) - at(top, left));
                let lower = at(bottom, left) + part_x * (at(bottom, beside) - at(bottom, left));
                moved.push(upper + part_y * (lower - upper));
            }
        }
        moved
    }
}
