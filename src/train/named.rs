//! The parameters of a model by their names, and what can be said of them before training.

use burn::module::{Flag, Module, ModuleVisitor, Param, ParamGroup, ParamId};
use burn::tensor::{Bool, Int, Tensor};

use crate::error::{Error, Result};

/// How many names an error lists.
const LISTED: usize = 8;

/// A parameter with its path.
#[derive(Debug)]
struct Named {
    id: ParamId,
    path: String,
    is_trained: bool,
}

/// A batch norm with its path.
#[derive(Debug)]
struct Norm {
    path: String,
    /// Whether its weights are trained.
    is_trained: bool,
    /// Whether it uses the statistics of the batch, and moves its own.
    is_moving: bool,
}

/// The parameters and the batch norms of what is trained.
#[derive(Debug, Default)]
pub(crate) struct Names {
    parameters: Vec<Named>,
    norms: Vec<Norm>,
    path: Vec<String>,
    /// The type of the module that has the field being visited.
    containers: Vec<String>,
}

impl Names {
    /// Those of a module as it is when it trains, under a path.
    pub fn add<M: Module>(&mut self, path: Option<&str>, module: &M) {
        self.path.extend(path.map(String::from));
        module.clone().train().visit(self);
        self.path.clear();
    }

    /// Fails if two names stand for one parameter: Burn finds a gradient by the identity of its
    /// parameter, and only one of them would get it.
    pub fn check_shared(&self) -> Result<()> {
        for (at, second) in self.parameters.iter().enumerate() {
            let mut before = self.parameters[..at].iter();
            let first = before.find(|first| first.id == second.id && first.is_trained);
            if let Some(first) = first {
                return Err(Error::InvalidParameter {
                    name: format!("student.{}", second.path),
                    value: format!("the same parameter as {}", first.path),
                    expected: "one of its own: of a layer and its clone only one learns; call the layer twice, or make two",
                });
            }
        }
        Ok(())
    }

    /// Fails if nothing learns.
    pub fn check_trained(&self) -> Result<()> {
        match self.parameters.iter().any(|it| it.is_trained) {
            true => Ok(()),
            false => Err(Error::invalid(
                "student",
                "frozen throughout",
                "a parameter that learns",
            )),
        }
    }

    /// Fails if a group has no parameter.
    pub fn check_group(&self, name: &str, group: &ParamGroup) -> Result<()> {
        let mut parameters = self.parameters.iter();
        if parameters.any(|it| group.matches(&it.id, Some(&it.path))) {
            return Ok(());
        }
        let paths = self.parameters.iter().map(|it| it.path.as_str());
        let mut paths: Vec<&str> = paths.take(LISTED + 1).collect();
        if paths.len() > LISTED {
            paths[LISTED] = "...";
        }
        Err(Error::InvalidParameter {
            name: name.to_string(),
            value: format!("a group without parameters among {}", paths.join(", ")),
            expected: "a group that has at least one, by its path in the student",
        })
    }

    /// What deserves a look before training, given the samples in the last batch of an epoch.
    pub fn notes(&self, last_batch: usize) -> Vec<String> {
        let mut notes = Vec::new();
        let moving = self
            .norms
            .iter()
            .find(|norm| norm.is_moving && last_batch == 1);
        if let Some(norm) = moving {
            notes.push(format!(
                "the last batch of an epoch has 1 sample, which has no variance for the batch norm {:?}: \
                 `FitConfig::with_drop_last` leaves it out",
                norm.path
            ));
        }
        let frozen = self
            .norms
            .iter()
            .filter(|norm| norm.is_moving && !norm.is_trained);
        let frozen: Vec<&str> = frozen.map(|norm| norm.path.as_str()).collect();
        if let Some(first) = frozen.first() {
            notes.push(format!(
                "{} batch norm(s), the first {first:?}, have frozen weights and statistics that move: \
                 `Module::freeze` and `freeze_group` hold both, `no_grad` the weights alone",
                frozen.len()
            ));
        }
        notes
    }

    fn parameter(&mut self, id: ParamId, is_trained: bool) {
        let path = self.path.join(".");
        self.parameters.push(Named {
            id,
            path,
            is_trained,
        });
    }

    /// The batch norm whose field is being visited, if it is one.
    fn norm(&mut self) -> Option<&mut Norm> {
        if self
            .containers
            .last()
            .is_none_or(|it| it != "Struct:BatchNorm")
        {
            return None;
        }
        let path = self.path[..self.path.len() - 1].join(".");
        if self.norms.last().is_none_or(|norm| norm.path != path) {
            self.norms.push(Norm {
                path,
                is_trained: false,
                is_moving: false,
            });
        }
        self.norms.last_mut()
    }
}

impl ModuleVisitor for Names {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let is_trained = param.val().is_require_grad();
        if let Some(norm) = self.norm() {
            norm.is_trained |= is_trained;
        }
        self.parameter(param.id, is_trained);
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.parameter(param.id, false);
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        self.parameter(param.id, false);
    }

    fn visit_flag(&mut self, flag: &Param<Flag>) {
        let is_moving = flag.val().is_enabled();
        if let Some(norm) = self.norm() {
            norm.is_moving = is_moving;
        }
    }

    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.push(name.to_string());
        self.containers.push(container_type.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
        self.containers.pop();
    }
}
