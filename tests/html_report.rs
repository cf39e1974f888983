//! The report's page in a real browser.
//!
//! Where there is none, the test says so and passes; with `BURN_DISTILL_REQUIRE_BROWSER=1` it fails.
#![cfg(feature = "flex")]

mod common;

use std::path::Path;
use std::process::Command;

use burn::tensor::Device;
use burn_distill::loss::{HardLabel, SoftTarget};
use burn_distill::{Distiller, FitConfig, ProgressMode, Report, Schedule};
use common::net::{INPUTS, Net, labelled, points};

fn report() -> Report {
    let _seeded = common::seeded();
    let device = Device::flex();
    device.seed(1);
    let (teacher, student) = (Net::new(32, 0.0, &device), Net::new(5, 0.1, &device));
    let config = FitConfig::new(3)
        .with_batch_size(16)
        .with_baseline(true)
        .with_progress(ProgressMode::Silent);
    // Six numbers as an image of two rows.
    let data = |count| {
        let data = labelled(points(count));
        data.with_images(|input| input.clone().reshape([-1, 1, 2, INPUTS as i32 / 2]))
    };
    Distiller::on(Device::flex(), teacher, student)
        .with(SoftTarget::new(Schedule::cosine(8.0, 2.0)), 0.7)
        .with(HardLabel::new(), 0.3)
        .fit(&config, data(60), data(40))
        .unwrap()
        .report
}

#[test]
fn a_fit_fills_every_part_of_the_page() {
    let report = report();
    let comparison = report.comparison.as_ref().unwrap();
    let predictions: u64 = comparison.confusion.iter().flatten().sum();
    assert_eq!(predictions, 40);
    let same: u64 = (0..3).map(|class| comparison.confusion[class][class]).sum();
    let agreement = report.distilled.agreement.unwrap();
    assert!((same as f64 / 40.0 - agreement).abs() < 1e-6);
    assert!(comparison.disagreements.iter().all(|it| it.image.is_some()));
    let divergences: Vec<f64> = (comparison.disagreements.iter())
        .map(|it| it.divergence)
        .collect();
    assert!(divergences.is_sorted_by(|a, b| a >= b), "{divergences:?}");
    let counted: usize = (report.distilled.reliability.iter())
        .map(|bin| bin.samples)
        .sum();
    assert_eq!(counted, 40);

    let schedules = &report.training.history.schedules;
    let cosine = |progress: f64| 2.0 + 6.0 * (1.0 + (std::f64::consts::PI * progress).cos()) / 2.0;
    let temperatures = [0.0, 1.0 / 3.0, 2.0 / 3.0].map(cosine);
    for (found, expected) in schedules["soft_target temperature"]
        .iter()
        .zip(temperatures)
    {
        assert!((found - expected).abs() < 1e-9, "{found} {expected}");
    }
    assert_eq!(schedules["soft_target weight"], [0.7; 3]);
    assert_eq!(
        schedules["learning_rate"],
        [report.training.learning_rate; 3]
    );

    let json = serde_json::to_string(&report).unwrap();
    let read: Report = serde_json::from_str(&json).unwrap();
    assert_eq!(read.comparison.unwrap().confusion, comparison.confusion);
}

/// Looks at the page from the inside, once it is laid out, and writes what it finds where `--dump-dom` shows it.
const INSPECTOR: &str = r#"<script>addEventListener("load", () => {
  const charts = [...document.querySelectorAll("svg")];
  const visible = it => { const box = it.getBoundingClientRect(); return box.width + box.height > 0; };
  const empty = charts.filter(svg => ![...svg.querySelectorAll(".mark")].some(visible));
  const broken = [...document.images].filter(it => !it.complete || it.naturalWidth === 0);
  const wide = document.documentElement.scrollWidth > innerWidth;
  document.body.dataset.found = JSON.stringify([charts.length, empty.length, document.images.length, broken.length, wide]);
})</script></body>"#;

#[test]
fn a_browser_shows_every_chart_and_complains_of_nothing() {
    let Some(browser) = browser() else { return };
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join("report.html");
    report().save_html(&page).unwrap();
    let inspected = directory.path().join("inspected.html");
    let html = std::fs::read_to_string(&page).unwrap();
    std::fs::write(&inspected, html.replace("</body>", INSPECTOR)).unwrap();

    for arguments in [
        &["--window-size=1200,900"][..],
        &["--window-size=400,800", "--force-dark-mode"],
    ] {
        let output = Command::new(&browser)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
            .args(["--enable-logging=stderr", "--virtual-time-budget=2000"])
            .arg(format!(
                "--user-data-dir={}",
                directory.path().join("profile").display()
            ))
            .args(arguments)
            .arg(url(&inspected))
            .output()
            .unwrap();
        let (dom, log) = (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        );
        assert!(!log.contains(":CONSOLE"), "{log}");
        let found = dom
            .split("data-found=\"")
            .nth(1)
            .and_then(|it| it.split('"').next());
        let found = found.unwrap_or_else(|| panic!("the page was not laid out: {log}\n{dom}"));
        let images = report_images(&html);
        // Charts, those without a visible mark, images, those that cannot be read, wider than the window.
        let expected = format!("[{},0,{},0,false]", images.0, images.1);
        assert_eq!(found, expected, "{arguments:?}");
        assert!(images.0 >= 8 && images.1 == 12, "{images:?}");
    }
}

fn report_images(html: &str) -> (usize, usize) {
    (html.matches("<svg ").count(), html.matches("<img ").count())
}

fn url(path: &Path) -> String {
    format!("file://{}", path.display())
}

/// Chromium or Chrome, by any of its names.
fn browser() -> Option<String> {
    let names = ["chromium", "chromium-browser", "google-chrome", "chrome"];
    let runs = |name: &&str| Command::new(name).arg("--version").output().is_ok();
    let found = names.iter().find(|name| runs(name));
    if found.is_none() {
        let required = std::env::var("BURN_DISTILL_REQUIRE_BROWSER").is_ok_and(|it| it == "1");
        assert!(!required, "none of {names:?} runs");
        eprintln!("skipped: none of {names:?} is installed");
    }
    found.map(ToString::to_string)
}
