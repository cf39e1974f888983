//! A module whose type is hidden: what a loss trains, or a teacher that is asked for its weights.

use std::any::Any;
use std::fmt::Debug;

use burn::module::{Devices, Flag, Module, ModuleDisplay, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Bool, Device, Int, Tensor};

/// The methods of [`Module`] behind a pointer.
///
/// `Module` cannot be a trait object, because visitors and mappers are generic over a tensor's rank.
/// Here the rank is a number, and is made a type again on the other side.
pub(crate) trait ErasedModule: Debug + ModuleDisplay + Send + Sync {
    fn cloned(&self) -> Box<dyn ErasedModule>;
    fn on_devices(&self, devices: Devices) -> Devices;
    fn forked(self: Box<Self>, device: &Device) -> Box<dyn ErasedModule>;
    fn moved(self: Box<Self>, device: &Device) -> Box<dyn ErasedModule>;
    fn training(self: Box<Self>) -> Box<dyn ErasedModule>;
    fn validating(&self) -> Box<dyn ErasedModule>;
    fn materialized(self: Box<Self>) -> Box<dyn ErasedModule>;
    fn visited(&self, visitor: &mut dyn AnyVisitor);
    fn mapped(self: Box<Self>, mapper: &mut dyn AnyMapper) -> Box<dyn ErasedModule>;
    fn as_any(&self) -> &dyn Any;
}

impl<M: Module + ModuleDisplay + Sync + 'static> ErasedModule for M {
    fn cloned(&self) -> Box<dyn ErasedModule> {
        Box::new(self.clone())
    }

    fn on_devices(&self, devices: Devices) -> Devices {
        self.collect_devices(devices)
    }

    fn forked(self: Box<Self>, device: &Device) -> Box<dyn ErasedModule> {
        Box::new(self.fork(device))
    }

    fn moved(self: Box<Self>, device: &Device) -> Box<dyn ErasedModule> {
        Box::new(self.to_device(device))
    }

    fn training(self: Box<Self>) -> Box<dyn ErasedModule> {
        Box::new(self.train())
    }

    fn validating(&self) -> Box<dyn ErasedModule> {
        Box::new(self.valid())
    }

    fn materialized(self: Box<Self>) -> Box<dyn ErasedModule> {
        Box::new(self.materialize())
    }

    fn visited(&self, visitor: &mut dyn AnyVisitor) {
        self.visit(&mut Erase(visitor));
    }

    fn mapped(self: Box<Self>, mapper: &mut dyn AnyMapper) -> Box<dyn ErasedModule> {
        Box::new(self.map(&mut Erase(mapper)))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Visits an erased module as any other.
pub(crate) fn visit<V: ModuleVisitor>(module: &dyn ErasedModule, visitor: &mut V) {
    module.visited(&mut Restore(visitor));
}

/// Maps an erased module as any other.
pub(crate) fn map<M: ModuleMapper>(
    module: Box<dyn ErasedModule>,
    mapper: &mut M,
) -> Box<dyn ErasedModule> {
    module.mapped(&mut Restore(mapper))
}

/// A visitor of parameters of any rank: each is a `Param<Tensor<rank, _>>`.
pub(crate) trait AnyVisitor {
    fn float(&mut self, rank: usize, param: &dyn Any);
    fn int(&mut self, rank: usize, param: &dyn Any);
    fn bool(&mut self, rank: usize, param: &dyn Any);
    fn flag(&mut self, flag: &Param<Flag>);
    fn enter(&mut self, name: &str, container: &str);
    fn exit(&mut self, name: &str, container: &str);
}

/// A mapper of parameters of any rank: each is a `Param<Tensor<rank, _>>`, before and after.
pub(crate) trait AnyMapper {
    fn float(&mut self, rank: usize, param: Box<dyn Any>) -> Box<dyn Any>;
    fn int(&mut self, rank: usize, param: Box<dyn Any>) -> Box<dyn Any>;
    fn bool(&mut self, rank: usize, param: Box<dyn Any>) -> Box<dyn Any>;
    fn flag(&mut self, flag: Param<Flag>) -> Param<Flag>;
    fn enter(&mut self, name: &str, container: &str);
    fn exit(&mut self, name: &str, container: &str);
}

/// From ranks as types to ranks as numbers.
struct Erase<'a, V: ?Sized>(&'a mut V);

impl ModuleVisitor for Erase<'_, dyn AnyVisitor + '_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.float(D, param);
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.0.int(D, param);
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        self.0.bool(D, param);
    }

    fn visit_flag(&mut self, flag: &Param<Flag>) {
        self.0.flag(flag);
    }

    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.0.enter(name, container_type);
    }

    fn exit_module(&mut self, name: &str, container_type: &str) {
        self.0.exit(name, container_type);
    }
}

impl ModuleMapper for Erase<'_, dyn AnyMapper + '_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        expect(self.0.float(D, Box::new(param)))
    }

    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        expect(self.0.int(D, Box::new(param)))
    }

    fn map_bool<const D: usize>(
        &mut self,
        param: Param<Tensor<D, Bool>>,
    ) -> Param<Tensor<D, Bool>> {
        expect(self.0.bool(D, Box::new(param)))
    }

    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        self.0.flag(flag)
    }

    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.0.enter(name, container_type);
    }

    fn exit_module(&mut self, name: &str, container_type: &str) {
        self.0.exit(name, container_type);
    }
}

fn expect<T: 'static>(param: Box<dyn Any>) -> T {
    let param = param.downcast();
    *param.expect("a parameter keeps its rank and its kind")
}

/// From ranks as numbers to ranks as types.
struct Restore<'a, V>(&'a mut V);

/// Runs `$body` with `$d` a constant of the value of `$rank`.
macro_rules! at_rank {
    ($rank:expr, $d:ident => $body:expr) => {
        at_rank!(@ $rank, $d => $body, 0 1 2 3 4 5 6 7 8)
    };
    (@ $rank:expr, $d:ident => $body:expr, $($n:literal)*) => {
        match $rank {
            $($n => {
                const $d: usize = $n;
                $body
            })*
            other => panic!("a parameter of rank {other} is more than a tensor can have"),
        }
    };
}

fn expect_ref<T: 'static>(param: &dyn Any) -> &T {
    let param = param.downcast_ref();
    param.expect("a parameter keeps its rank and its kind")
}

impl<V: ModuleVisitor> AnyVisitor for Restore<'_, V> {
    fn float(&mut self, rank: usize, param: &dyn Any) {
        at_rank!(rank, D => self.0.visit_float::<D>(expect_ref(param)));
    }

    fn int(&mut self, rank: usize, param: &dyn Any) {
        at_rank!(rank, D => self.0.visit_int::<D>(expect_ref(param)));
    }

    fn bool(&mut self, rank: usize, param: &dyn Any) {
        at_rank!(rank, D => self.0.visit_bool::<D>(expect_ref(param)));
    }

    fn flag(&mut self, flag: &Param<Flag>) {
        self.0.visit_flag(flag);
    }

    fn enter(&mut self, name: &str, container: &str) {
        self.0.enter_module(name, container);
    }

    fn exit(&mut self, name: &str, container: &str) {
        self.0.exit_module(name, container);
    }
}

impl<M: ModuleMapper> AnyMapper for Restore<'_, M> {
    fn float(&mut self, rank: usize, param: Box<dyn Any>) -> Box<dyn Any> {
        at_rank!(rank, D => Box::new(self.0.map_float::<D>(expect(param))))
    }

    fn int(&mut self, rank: usize, param: Box<dyn Any>) -> Box<dyn Any> {
        at_rank!(rank, D => Box::new(self.0.map_int::<D>(expect(param))))
    }

    fn bool(&mut self, rank: usize, param: Box<dyn Any>) -> Box<dyn Any> {
        at_rank!(rank, D => Box::new(self.0.map_bool::<D>(expect(param))))
    }

    fn flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        self.0.map_flag(flag)
    }

    fn enter(&mut self, name: &str, container: &str) {
        self.0.enter_module(name, container);
    }

    fn exit(&mut self, name: &str, container: &str) {
        self.0.exit_module(name, container);
    }
}
