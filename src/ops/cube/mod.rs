//! Rows of logits on every GPU: one cube per row.

mod functions;
mod row;
mod squares;
mod sums;

use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::ops::{FloatTensorOps, IntTensorOps};
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use crate::ops::cube::row::{Kind, NumbersLaunch};
use crate::ops::extension::{Against, NO_GRADIENT, RowOps};
use crate::ops::formula::Formula;

impl RowOps for CubeBackend {
    fn compare(
        student: FloatTensor<Self>,
        against: Against<Self>,
        weights: FloatTensor<Self>,
        formula: Formula,
        has_gradient: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        rows(student, against, weights, formula, has_gradient)
    }
}

fn rows(
    student: CubeTensor,
    against: Against<CubeBackend>,
    weights: CubeTensor,
    formula: Formula,
    has_gradient: bool,
) -> (CubeTensor, CubeTensor) {
    let (teacher, labels) = match against {
        Against::Teacher(teacher) => (Some(teacher), None),
        Against::Labels(labels) => (None, Some(labels)),
        Against::TeacherAndLabels(teacher, labels) => (Some(teacher), Some(labels)),
        Against::Sparse { .. } => unreachable!("composed of tensor operations, which are fused"),
    };
    let [count, classes] = student.shape().dims();
    let student = into_contiguous(student);
    let weights = into_contiguous(single(weights));
    // Without padding between the rows, which some backends add: the kernel expects none.
    let new = |shape: Shape, dtype: DType| {
        let (client, device) = (student.client.clone(), student.device.clone());
        let buffer = client.empty(shape.num_elements() * dtype.size());
        CubeTensor::new_contiguous(client, device, shape, buffer, dtype)
    };
    let values = new(Shape::new([count]), DType::F32);
    let gradient = match has_gradient {
        true => new(Shape::new([count, classes]), DType::F32),
        false => new(Shape::new(NO_GRADIENT), DType::F32),
    };
    if count == 0 || classes == 0 {
        return (values, gradient);
    }
    // Where the formula has none, the kernel does not read it, but takes an argument. Each gets its own
    // buffer: WebGPU refuses one buffer in two arguments.
    let none = |dtype| new(Shape::new([1]), dtype);
    let teacher = teacher.map_or_else(|| none(student.dtype), into_contiguous);
    let labels = labels.map_or_else(
        || none(DType::I32),
        |labels| into_contiguous(of_32_bits(labels)),
    );

    let client = student.client.clone();
    let hardware = &client.properties().hardware;
    // A power of two, for the halving in a sum.
    let most = hardware.max_units_per_cube.min(hardware.max_cube_dim.0);
    let units = if classes <= 64 { 32 } else { 256 };
    let units = units.min(1 << most.max(1).ilog2());
    let per_line = (count as u64).min(u64::from(hardware.max_cube_count.0.clamp(1, 65_535))) as u32;
    let lines = (count as u64).div_ceil(u64::from(per_line)) as u32;

    let dtype = dtype_to_storage_type(student.dtype);
    let address = [&student, &gradient]
        .map(|tensor| tensor.required_address_type())
        .into_iter()
        .max()
        .unwrap_or_default();
    let count = CubeCount::Static(per_line, lines, 1);
    let Some((kind, numbers)) = arguments(formula) else {
        squares::squares::launch(
            &client,
            count,
            CubeDim::new_1d(units),
            address,
            student.into_buffer_arg(),
            teacher.into_buffer_arg(),
            weights.into_buffer_arg(),
            values.clone().into_buffer_arg(),
            gradient.clone().into_buffer_arg(),
            classes,
            has_gradient,
            units as usize,
            dtype,
        );
        return (values, gradient);
    };
    row::rows::launch(
        &client,
        count,
        CubeDim::new_1d(units),
        address,
        student.into_buffer_arg(),
        teacher.into_buffer_arg(),
        labels.into_buffer_arg(),
        weights.into_buffer_arg(),
        values.clone().into_buffer_arg(),
        gradient.clone().into_buffer_arg(),
        classes,
        numbers,
        kind,
        has_gradient,
        units as usize,
        dtype,
    );
    (values, gradient)
}

fn single(tensor: CubeTensor) -> CubeTensor {
    match tensor.dtype {
        DType::F32 => tensor,
        _ => CubeBackend::float_cast(tensor, DType::F32.into()),
    }
}

fn of_32_bits(labels: CubeTensor) -> CubeTensor {
    match labels.dtype {
        DType::I32 => labels,
        _ => CubeBackend::int_cast(labels, DType::I32.into()),
    }
}

/// What the kernel of divergences is compiled for, and the numbers it is given.
fn arguments(formula: Formula) -> Option<(Kind, NumbersLaunch)> {
    let (kind, alpha, beta) = match formula {
        Formula::Divergence { .. } => (Kind::Divergence, 0.0, 0.0),
        Formula::Reverse { .. } => (Kind::Reverse, 0.0, 0.0),
        Formula::Mixture { beta, .. } => (Kind::Mixture, 0.0, beta),
        Formula::HardLabel { smoothing } => (Kind::HardLabel, smoothing, 0.0),
        Formula::Decoupled { alpha, beta, .. } => (Kind::Decoupled, alpha, beta),
        Formula::SquaredError | Formula::Sparse { .. } => return None,
    };
    let numbers = NumbersLaunch::new(
        (1.0 / formula.temperature()) as f32,
        alpha as f32,
        beta as f32,
        f32::INFINITY,
        f32::NAN,
    );
    Some((kind, numbers))
}

#[cfg(all(test, feature = "wgpu", feature = "flex"))]
#[path = "../tests/cube.rs"]
mod tests;
