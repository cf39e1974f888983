//! The teacher in another process: what it teaches, who else may use it, and what happens when it goes.

mod common;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use burn::backend::Dispatch;
use burn::data::dataset::InMemDataset;
use burn::module::{Module, ModuleMapper, Param};
use burn::remote::{IrohHost, IrohRelays, RemoteHost};
use burn::server::{IrohIdentity, IrohTransport, RemoteServer};
use burn::tensor::{DType, Device, Tensor};
use burn::train::MultiDeviceOptim;
use burn_distill::loss::{HardLabel, Hint, SoftTarget};
use burn_distill::{
    DistillBatch, DistillData, Distillable, Distilled, Distiller, Error, FitConfig, Outputs,
    ProgressMode, check_device,
};
use common::net::{Net, Point, bytes, classes, initialized, inputs, labelled, numbers, points};
use common::plain::Plain;

/// Names the port to the process that serves.
const PORT: &str = "BURN_DISTILL_TEST_SERVER_PORT";

/// A second process that serves `flex` on loopback, for as long as this value lives.
struct Server {
    process: Child,
    port: u16,
}

impl Server {
    /// Starts the calling test, whose name is given, once more: the second one gets no further than
    /// here.
    fn start(test: &str) -> Self {
        if let Ok(port) = std::env::var(PORT) {
            serve(port.parse().unwrap());
        }
        let free = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(PORT, port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, port }
    }

    /// Connects, which waits for a server that has just been started.
    fn device(&self) -> Device {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let host = IrohHost::new(identity(self.port).id())
            .with_relays(IrohRelays::Disabled)
            .with_address(address);
        let device = Device::remote_options(&RemoteHost::iroh(host)).init();
        device.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Serves until killed, or until the process that started this one is gone, however it went.
fn serve(port: u16) -> ! {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    let transport = IrohTransport::new(identity(port))
        .with_relays(IrohRelays::Disabled)
        .with_port(port);
    RemoteServer::new([Device::flex()])
        .serve(transport)
        .unwrap();
    std::process::exit(0)
}

/// A server of its own for every port, since Burn remembers servers by it.
fn identity(port: u16) -> IrohIdentity {
    let mut seed = [7; 32];
    seed[..2].copy_from_slice(&port.to_le_bytes());
    IrohIdentity::from_bytes(seed)
}

fn quiet() -> FitConfig {
    FitConfig::new(2)
        .with_batch_size(16)
        .with_progress(ProgressMode::Silent)
}

/// A teacher and a student with the same weights in every call.
fn pair() -> (Net, Net) {
    let device = Device::flex();
    device.seed(3);
    (
        initialized(Net::new(16, 0.0, &device)),
        initialized(Net::new(5, 0.2, &device)),
    )
}

fn distiller<T>(teacher: T, on: Option<&Device>) -> Distiller<Dispatch, T, Net> {
    let distiller = Distiller::on(Device::flex(), teacher, pair().1)
        .with(SoftTarget::new(4.0), 0.9)
        .with(HardLabel::new(), 0.1)
        .with(Hint::new("hidden", "hidden"), 0.5);
    match on {
        Some(device) => distiller.teacher_on(device.clone()),
        None => distiller,
    }
}

fn distil(teacher: Net, on: Option<&Device>, config: &FitConfig) -> Distilled<Net, Net> {
    let (train, valid) = (labelled(points(40)), labelled(points(16)));
    distiller(teacher, on).fit(config, train, valid).unwrap()
}

#[test]
fn one_server_teaches_two_trainings_what_a_local_teacher_would() {
    let _seeded = common::seeded();
    let server = Server::start("one_server_teaches_two_trainings_what_a_local_teacher_would");
    let remote = server.device();
    assert_ne!(remote, Device::flex());
    let config = quiet().with_baseline(true);
    let mut teacher = pair().0;
    let here = distil(teacher.clone(), None, &config);
    for training in 1..=2 {
        let there = distil(teacher, Some(&remote), &config);
        // The same backend computes in both processes.
        assert_eq!(
            numbers(&there.student),
            numbers(&here.student),
            "{training}"
        );
        // It comes back as it was given, and its copy there is gone.
        assert_eq!(there.teacher.devices(), [Device::flex()]);
        let equal = bytes(&there.teacher) == bytes(&here.teacher);
        assert!(equal, "the teacher of training {training} changed");

        let (ours, theirs) = (&here.report, &there.report);
        assert_eq!(ours.teacher_device, None);
        assert_eq!(theirs.teacher_device, Some(format!("{remote:?}")));
        assert_eq!(ours.distilled.agreement, theirs.distilled.agreement);
        let teachers = [ours, theirs].map(|report| report.teacher.as_ref().unwrap());
        assert_eq!(teachers[0].accuracy, teachers[1].accuracy);
        assert!(teachers[1].latency_ms.is_some_and(|latency| latency > 0.0));
        let baselines = [ours, theirs].map(|report| report.baseline.as_ref().unwrap().agreement);
        assert_eq!(baselines[0], baselines[1]);
        teacher = there.teacher;
    }
}

#[test]
fn every_worker_of_several_devices_asks_it() {
    let _seeded = common::seeded();
    let server = Server::start("every_worker_of_several_devices_asks_it");
    let remote = server.device();
    let devices = vec![Device::flex(); 2];
    let config = quiet().with_devices(devices, MultiDeviceOptim::OptimMainDevice);
    // Without dropout, whose numbers two workers draw in an order of their own.
    let run = |on: Option<&Device>| {
        let mut distiller =
            Distiller::on(Device::flex(), pair().0, pair().0).with(SoftTarget::new(4.0), 1.0);
        if let Some(device) = on {
            distiller = distiller.teacher_on(device.clone());
        }
        let distilled = distiller.fit(&config, labelled(points(40)), None).unwrap();
        numbers(&distilled.student)
    };
    let difference = common::net::largest_difference(&run(Some(&remote)), &run(None));
    assert!(difference < 1e-5, "{difference}");
}

#[test]
fn two_served_devices_train_what_one_here_does() {
    let _seeded = common::seeded();
    let name = "two_served_devices_train_what_one_here_does";
    let servers = [Server::start(name), Server::start(name)];
    let devices: Vec<Device> = servers.iter().map(Server::device).collect();
    let run = |config: FitConfig| {
        let (teacher, student) = (Plain::new(12), Plain::new(4));
        let distilled = Distiller::on(Device::flex(), teacher, student)
            .with(SoftTarget::new(4.0), 1.0)
            .fit(&config, labelled(points(44)), None)
            .unwrap();
        numbers(&distilled.student)
    };
    let one = run(quiet());
    for optim in [
        MultiDeviceOptim::OptimMainDevice,
        MultiDeviceOptim::OptimSharded,
    ] {
        // The second time, one of the two is in this process.
        let mixed = vec![Device::flex(), devices[0].clone()];
        for devices in [devices.clone(), mixed] {
            let config = quiet().with_batch_size(8);
            let two = run(config.with_devices(devices.clone(), optim));
            let difference = common::net::largest_difference(&one, &two);
            assert!(
                difference < 1e-5,
                "{difference} with {optim:?} on {devices:?}"
            );
        }
    }
}

/// A teacher in half precision.
#[derive(Module, Debug)]
struct Half {
    net: Net,
}

impl Distillable<Tensor<2>> for Half {
    fn outputs(&self, input: Tensor<2>) -> Outputs {
        self.net.outputs(input.cast(DType::F16))
    }
}

struct InHalf;

impl ModuleMapper for InHalf {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor.cast(DType::F16))
    }
}

#[test]
fn it_may_run_in_half_precision() {
    let _seeded = common::seeded();
    let server = Server::start("it_may_run_in_half_precision");
    let remote = server.device();
    let run = |on: Option<&Device>| {
        let teacher = Half {
            net: pair().0.map(&mut InHalf),
        };
        let distilled = distiller(teacher, on).fit(&quiet(), labelled(points(40)), None);
        numbers(&distilled.unwrap().student)
    };
    assert_eq!(run(Some(&remote)), run(None));
    assert_ne!(
        run(None),
        numbers(&distil(pair().0, None, &quiet()).student)
    );
}

#[test]
fn a_server_that_ends_is_an_error_on_every_device() {
    let _seeded = common::seeded();
    let server = Server::start("a_server_that_ends_is_an_error_on_every_device");
    let devices = vec![Device::flex(); 2];
    let config = quiet().with_devices(devices, MultiDeviceOptim::OptimMainDevice);
    let end = |mut server: Server| {
        // Waiting would close it, which the server takes for the end of this process.
        let _open = server.process.stdin.take();
        let id = server.process.id().to_string();
        let signal = Command::new("kill").args(["-TERM", &id]).status();
        assert!(signal.unwrap().success());
        server.process.wait().unwrap();
    };
    // It takes leave of its clients: nobody waits.
    let noticed = without_server(server, end, &config);
    assert!(noticed < Duration::from_secs(15), "{noticed:?}");
}

#[test]
fn a_server_that_is_killed_is_an_error() {
    let _seeded = common::seeded();
    let server = Server::start("a_server_that_is_killed_is_an_error");
    without_server(server, drop, &quiet());
}

/// Trains with a server that ends in the second epoch, and again without it. Gives the time until
/// the first training noticed.
fn without_server(
    server: Server,
    end: impl Fn(Server) + Send + Sync + 'static,
    config: &FitConfig,
) -> Duration {
    let remote = server.device();
    let expect_unavailable = |error: Error| {
        let Error::DeviceUnavailable { device, reason } = error else {
            panic!("{error}")
        };
        assert_eq!(device, format!("{remote:?}"));
        // Burn's words.
        let expected = "An error happened during execution\nCaused by:\n  Failed to read tensor: RecvError(())";
        assert_eq!(reason, expected);
    };

    let server = Mutex::new(Some(server));
    let ended = Arc::new(Mutex::new(None));
    let (batches, when) = (AtomicUsize::new(0), ended.clone());
    let data = DistillData::from_fn(
        InMemDataset::new(points(40)),
        move |points: Vec<Point>, device: &Device| {
            // One batch for the check, and four per epoch: the last of the three is filled up for the
            // teacher.
            if batches.fetch_add(1, Ordering::Relaxed) + 1 == 1 + 4 + 2 {
                end(server.lock().unwrap().take().unwrap());
                *when.lock().unwrap() = Some(Instant::now());
            }
            DistillBatch::new(inputs(&points, device)).with_classes(classes(&points, device))
        },
    );
    let outcome = distiller(pair().0, Some(&remote)).fit(config, data, None);
    let noticed = ended
        .lock()
        .unwrap()
        .expect("the first epoch went well")
        .elapsed();
    let error = outcome.unwrap_err();
    assert!(error.student::<Net>().is_some(), "that of the first epoch");
    let Error::Stopped { reason, .. } = error else {
        panic!("{error}")
    };
    expect_unavailable(*reason);

    // Now it is known, before the first epoch.
    let start = Instant::now();
    expect_unavailable(check_device(&remote).unwrap_err());
    let outcome = distiller(pair().0, Some(&remote)).fit(config, labelled(points(40)), None);
    expect_unavailable(outcome.unwrap_err());
    assert!(start.elapsed() < Duration::from_secs(5));
    noticed
}
