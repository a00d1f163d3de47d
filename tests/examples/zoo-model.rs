//! Writes a network of the zoo with random weights as a model file, to look at its mapping:
//!
//! cargo run -p akida-tests --example zoo-model -- akidanet-0.5-160 akd1500 /tmp/akidanet.akm

use akida_runtime::model::{Model, Target};
use akida_tests::zoo;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, target, path] = arguments.as_slice() else {
        return Err("usage: zoo-model akidanet-WIDTH-SIZE|mobilenet-WIDTH-SIZE|ds-cnn|vgg|lenet TARGET FILE".into());
    };
    let target: Target = target.parse()?;
    let model: Model = match name.split('-').collect::<Vec<_>>().as_slice() {
        ["akidanet", width, size] => zoo::akidanet(target, quarters(width)?, size.parse()?, 1000),
        ["mobilenet", width, size] => zoo::mobilenet_v1(target, quarters(width)?, size.parse()?, 1000),
        ["ds", "cnn"] => zoo::ds_cnn(target, 12),
        ["vgg"] => zoo::vgg(target),
        ["lenet"] => zoo::lenet(target),
        _ => return Err(format!("no network is called {name}").into()),
    };
    model.save(path)?;
    Ok(())
}

fn quarters(width: &str) -> Result<usize, Box<dyn std::error::Error>> {
    Ok((width.parse::<f64>()? * 4.0).round() as usize)
}
