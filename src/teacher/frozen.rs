use burn::module::{
    Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
};
use burn::tensor::Device;

use crate::data::batch::DistillBatch;
use crate::data::outputs::{Distillable, Outputs, Recalled};
use crate::error::Result;

/// A module that teaches and never learns.
///
/// It is in inference mode for good: dropout is off, batch normalisation uses its running
/// statistics and leaves them alone. As part of another module it shows no parameters, so no
/// optimizer touches it, no record or checkpoint holds it and no parameter count includes it. It
/// follows when training moves to another device, always outside autodiff, so that no graph is
/// recorded for it. [Pinned](Self::pinned_to) to a device of its own it stays there, and only its
/// answers follow.
///
/// # Example
///
/// ```
/// use burn::module::Module;
/// use burn::nn::LinearConfig;
/// use burn::tensor::Device;
/// use burn_distill::Frozen;
///
/// let teacher = LinearConfig::new(10, 2).init(&Device::flex());
/// assert_eq!(teacher.num_params(), 22);
/// assert_eq!(Frozen::new(teacher).num_params(), 0);
/// ```
#[derive(Debug, Clone)]
pub struct Frozen<T> {
    teacher: T,
    pin: Option<Pin>,
}

/// A device that a teacher does not leave.
#[derive(Debug, Clone)]
struct Pin {
    at: Device,
    /// Where the answers go: the device that the teacher would have followed to.
    answers: Option<Device>,
}

impl<T: Module> Frozen<T> {
    /// Freezes a module. The module given is not changed: its copy shares the weights, which
    /// nothing writes to.
    pub fn new(teacher: T) -> Self {
        Self {
            teacher: teacher.valid(),
            pin: None,
        }
    }

    /// Moves the module to a device, outside autodiff, and keeps it there. From then on
    /// [`fork`](Module::fork) and [`to_device`](Module::to_device) say where inputs come from and
    /// answers go to. That costs nothing where it is the same device.
    ///
    /// # Example
    ///
    /// ```
    /// use burn::module::Module;
    /// use burn::nn::LinearConfig;
    /// use burn::tensor::Device;
    /// use burn_distill::Frozen;
    ///
    /// let device = Device::flex();
    /// let teacher = LinearConfig::new(10, 2).init(&device);
    /// let frozen = Frozen::new(teacher).pinned_to(&device).fork(&device.clone().autodiff());
    /// assert_eq!(frozen.inner().devices(), [device]);
    /// ```
    #[must_use]
    pub fn pinned_to(self, device: &Device) -> Self {
        let at = device.clone().inner();
        Self {
            teacher: self.teacher.to_device(&at),
            pin: Some(Pin { at, answers: None }),
        }
    }

    /// The module, in inference mode.
    pub fn inner(&self) -> &T {
        &self.teacher
    }

    /// Hands the module back, in inference mode.
    pub fn into_inner(self) -> T {
        self.teacher
    }

    /// What the teacher says about an input: constants, whatever the input's device.
    pub fn outputs<I: Module>(&self, input: &I) -> Outputs
    where
        T: Distillable<I>,
    {
        let Some((at, to)) = self.elsewhere() else {
            return self.teacher.outputs(input.valid()).without_autodiff();
        };
        let outputs = self.teacher.outputs(input.valid().to_device(at));
        outputs.without_autodiff().moved_to(to)
    }

    /// What the teacher says about a batch.
    pub(crate) fn teach<I: Module>(&self, batch: &DistillBatch<I>) -> Result<Outputs>
    where
        T: Distillable<I>,
    {
        let asked = self.ask(&batch.input, batch.recalled.as_ref())?;
        Ok(asked.answer())
    }

    /// Begins what [`outputs`](Self::outputs) does. A teacher elsewhere works on it while its
    /// student works here, until somebody wants the answer.
    pub(crate) fn ask<I: Module>(&self, input: &I, recalled: Option<&Recalled>) -> Result<Asked>
    where
        T: Distillable<I>,
    {
        let Some((at, to)) = self.elsewhere() else {
            return Asked::of(&self.teacher, input, recalled);
        };
        let outputs = self.teacher.teach(&input.valid().to_device(at), recalled)?;
        // Some devices collect work before they begin with it. One that fails here fails again, with
        // its reason, where the answer is read.
        let _ = at.flush();
        Ok(Asked {
            outputs: outputs.without_autodiff(),
            to: Some(to.clone()),
        })
    }

    /// Where the teacher is and where its answers go, if these are two devices.
    fn elsewhere(&self) -> Option<(&Device, &Device)> {
        let pin = self.pin.as_ref()?;
        let to = pin.answers.as_ref().filter(|to| **to != pin.at)?;
        Some((&pin.at, to))
    }

    fn follow(self, device: &Device) -> Self {
        let device = device.clone().inner();
        match self.pin {
            None => Self {
                teacher: self.teacher.to_device(&device),
                pin: None,
            },
            Some(pin) => Self {
                teacher: self.teacher,
                pin: Some(Pin {
                    answers: Some(device),
                    ..pin
                }),
            },
        }
    }
}

/// A question to a teacher, which may still be at work on it.
pub(crate) struct Asked {
    outputs: Outputs,
    to: Option<Device>,
}

impl Asked {
    /// A question to a teacher that is where the input is.
    pub fn of<I: Module, T: Distillable<I>>(
        teacher: &T,
        input: &I,
        recalled: Option<&Recalled>,
    ) -> Result<Self> {
        Ok(Self {
            outputs: teacher.teach(input, recalled)?.without_autodiff(),
            to: None,
        })
    }

    /// The answer, on the student's device. Between two backends this waits for the teacher.
    pub fn answer(self) -> Outputs {
        match self.to {
            Some(device) => self.outputs.moved_to(&device),
            None => self.outputs,
        }
    }
}

impl<T: Module> Module for Frozen<T> {
    /// Seen from outside, a pinned teacher is where its answers are.
    fn collect_devices(&self, mut devices: Devices) -> Devices {
        match self.elsewhere() {
            Some((_, to)) if devices.contains(to) => devices,
            Some((_, to)) => {
                devices.push(to.clone());
                devices
            }
            None => self.teacher.collect_devices(devices),
        }
    }

    fn fork(self, device: &Device) -> Self {
        // Nothing is here to detach, and Burn's `fork` would turn quantised weights into floats.
        self.follow(device)
    }

    fn to_device(self, device: &Device) -> Self {
        self.follow(device)
    }

    fn train(self) -> Self {
        self
    }

    fn valid(&self) -> Self {
        self.clone()
    }

    fn materialize(self) -> Self {
        Self {
            teacher: self.teacher.materialize(),
            pin: self.pin,
        }
    }

    fn visit<V: ModuleVisitor>(&self, _visitor: &mut V) {}

    fn map<M: ModuleMapper>(self, _mapper: &mut M) -> Self {
        self
    }
}

impl<T: Module + ModuleDisplay> ModuleDisplayDefault for Frozen<T> {
    fn content(&self, content: Content) -> Option<Content> {
        content.add_single(&self.teacher).optional()
    }
}

impl<T: Module + ModuleDisplay> ModuleDisplay for Frozen<T> {}
