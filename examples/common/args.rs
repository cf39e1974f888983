//! The command line that the examples share.

use std::error::Error;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::store::{ModuleSnapshot, SafetensorsStore};
use burn::tensor::Device;
use burn_distill::Report;

use super::backend::BackendName;

/// What nearly every example can be told.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// Where to compute.
    #[arg(long, default_value_t = BackendName::Flex)]
    pub backend: BackendName,
    /// Seed of weights, order and dropout, and of which part of the data the student sees.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// A few seconds instead of a minute or more, with results to match.
    #[arg(long)]
    pub quick: bool,
}

impl Common {
    /// The device, once it has answered.
    pub fn device(&self) -> Result<Device, Box<dyn Error>> {
        self.backend.device()
    }
}

/// Where an example writes. Some write only where this names a directory.
#[derive(Debug, Clone, clap::Args)]
pub struct Output {
    /// Directory for report.html, report.json and models. Examples that need one have it below `target`.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

impl Output {
    /// The directory named, or this one, made if it is not there.
    pub fn or(&self, default: &str) -> std::io::Result<PathBuf> {
        let directory = self.out.clone().unwrap_or_else(|| default.into());
        std::fs::create_dir_all(&directory)?;
        Ok(directory)
    }

    /// Writes report.html and report.json, where a directory was named.
    pub fn save(&self, report: &Report) -> Result<(), Box<dyn Error>> {
        let Some(directory) = &self.out else {
            return Ok(());
        };
        std::fs::create_dir_all(directory)?;
        save_report(report, directory)
    }
}

/// Writes report.html and report.json.
pub fn save_report(report: &Report, directory: &Path) -> Result<(), Box<dyn Error>> {
    report.save_html(directory.join("report.html"))?;
    report.save_json(directory.join("report.json"))?;
    println!(
        "Wrote report.html and report.json to {}.",
        directory.display()
    );
    Ok(())
}

/// Writes a model to student.safetensors, over an older one.
pub fn save_student<M: Module>(student: &M, directory: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let path = directory.join("student.safetensors");
    student.save_into(&mut SafetensorsStore::from_file(&path).overwrite(true))?;
    println!("Wrote student.safetensors to {}.", directory.display());
    Ok(path)
}
