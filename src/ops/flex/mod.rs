//! Rows of logits on the CPU: vector instructions chosen at run time, rows shared among threads.

mod choice;
mod lanes;
mod out;
mod product;
mod row;
mod side;

use std::cell::RefCell;
use std::mem::MaybeUninit;

use burn::backend::Flex;
use burn::backend::flex::{FlexTensor, Layout};
use burn::backend::tensor::FloatTensor;
use burn::tensor::{Bytes, DType, Shape, bf16, f16};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::ops::extension::{Against, NO_GRADIENT, RowOps};
use crate::ops::flex::row::{Row, SparseRow, Teacher, row, scratch_len};
use crate::ops::flex::side::Logit;
use crate::ops::formula::Formula;

/// How many numbers a thread takes at once: less is not worth another thread.
const NUMBERS_PER_TASK: usize = 1 << 15;

impl RowOps for Flex {
    fn compare(
        student: FloatTensor<Self>,
        against: Against<Self>,
        weights: FloatTensor<Self>,
        formula: Formula,
        has_gradient: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        match student.dtype() {
            DType::F16 => rows::<f16>(&student, against, &weights, formula, has_gradient),
            DType::BF16 => rows::<bf16>(&student, against, &weights, formula, has_gradient),
            _ => rows::<f32>(&student, against, &weights, formula, has_gradient),
        }
    }

    fn scale_rows(mut rows: FloatTensor<Self>, factors: FloatTensor<Self>) -> FloatTensor<Self> {
        let factors = factors.to_contiguous();
        let factors: &[f32] = factors.as_slice().expect("factors are contiguous");
        // A loss that is not part of a sum: the factor is one.
        if factors.iter().all(|&factor| factor == 1.0) {
            return rows;
        }
        let shape = rows.layout().shape();
        let classes = shape[shape.num_dims() - 1];
        // The tensor is contiguous; a shared buffer is copied.
        let numbers: &mut [f32] = rows.storage_mut();
        let rows_per_task = (NUMBERS_PER_TASK / classes.max(1)).max(1);
        numbers
            .par_chunks_mut((rows_per_task * classes).max(1))
            .enumerate()
            .for_each(|(task, rows)| {
                for (i, row) in rows.chunks_mut(classes.max(1)).enumerate() {
                    let factor = match factors {
                        [factor] => *factor,
                        factors => factors[task * rows_per_task + i],
                    };
                    row.iter_mut().for_each(|x| *x *= factor);
                }
            });
        rows
    }

    fn add_product(
        sum: FloatTensor<Self>,
        lhs: FloatTensor<Self>,
        rhs: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        product::add(sum, &lhs, &rhs)
    }
}

fn rows<T: Logit>(
    student: &FlexTensor,
    against: Against<Flex>,
    weights: &FlexTensor,
    formula: Formula,
    has_gradient: bool,
) -> (FlexTensor, FlexTensor) {
    let shape = student.layout().shape().clone();
    let [count, classes] = [shape[0], shape[1]];
    let student = student.to_contiguous();
    let weights = weights.to_contiguous();
    let (teacher, labels, sparse) = match against {
        Against::Teacher(teacher) => (Some(teacher), None, None),
        Against::Labels(labels) => (None, Some(labels), None),
        Against::TeacherAndLabels(teacher, labels) => (Some(teacher), Some(labels), None),
        Against::Sparse {
            indices,
            log_p,
            log_tail,
        } => (None, None, Some((indices, log_p, log_tail))),
    };
    let mut teacher = teacher.map(contiguous);
    let labels = labels.map(|labels| indices(&labels, classes));
    let sparse = sparse.map(|(classes_of_rows, log_p, log_tail)| SparseRows {
        indices: indices(&classes_of_rows, classes),
        log_p: log_p.to_contiguous(),
        log_tail: log_tail.to_contiguous(),
        k: log_p.layout().shape()[1],
    });

    let mut values = vec![0.0f32; count];
    let mut gradient: Vec<f32> = Vec::new();
    let len = if has_gradient { count * classes } else { 0 };
    let mut job = Job::<T> {
        formula,
        classes,
        student: student.as_slice().expect("the student is contiguous"),
        teacher: Teacher::None,
        labels: labels.as_deref(),
        sparse: sparse.as_ref(),
        weights: weights.as_slice().expect("weights are contiguous"),
    };
    let gradient_shape = match has_gradient {
        true => shape,
        false => Shape::new(NO_GRADIENT),
    };
    let values_shape = Shape::new([count]);
    if let Some(teacher) = &mut teacher
        && let Some(buffer) = gradient_buffer(teacher, len)
    {
        job.teacher = Teacher::InGradient;
        job.run(&mut values, buffer);
        let teacher = teacher.clone().reshape(gradient_shape);
        return (tensor(values, values_shape), teacher);
    }
    if let Some(teacher) = &teacher {
        job.teacher = Teacher::At(teacher.as_slice().expect("the teacher is contiguous"));
    }
    gradient.reserve_exact(len);
    job.run(&mut values, &mut gradient.spare_capacity_mut()[..len]);
    // SAFETY: a row writes its gradient as a whole, and the job has run all rows.
    unsafe { gradient.set_len(len) };
    if !has_gradient {
        gradient.push(0.0);
    }
    (
        tensor(values, values_shape),
        tensor(gradient, gradient_shape),
    )
}

/// The same numbers without gaps. A tensor that has none is passed on, unshared.
fn contiguous(tensor: FlexTensor) -> FlexTensor {
    match tensor.is_contiguous() {
        true => tensor,
        false => tensor.to_contiguous(),
    }
}

/// The teacher's logits as the buffer of the gradient, written row by row after each has been read: where
/// the buffer is not shared and has the same size. A new buffer of many megabytes costs
/// about as much as the computation.
fn gradient_buffer(teacher: &mut FlexTensor, len: usize) -> Option<&mut [MaybeUninit<f32>]> {
    if teacher.dtype() != DType::F32 || len == 0 {
        return None;
    }
    let logits = teacher.try_storage_mut::<f32>()?;
    if logits.len() != len {
        return None;
    }
    // SAFETY: the same memory; initialised numbers may be treated as uninitialised, since a row writes its
    // gradient as a whole.
    Some(unsafe { &mut *(std::ptr::from_mut(logits) as *mut [MaybeUninit<f32>]) })
}

fn tensor(numbers: Vec<f32>, shape: Shape) -> FlexTensor {
    FlexTensor::new(
        Bytes::from_elems(numbers),
        Layout::contiguous(shape),
        DType::F32,
    )
}

/// The labels as indices. A negative label, which a row of weight zero may have, becomes the number of
/// classes, which a valid row does not accept.
fn indices(labels: &FlexTensor, classes: usize) -> Vec<usize> {
    let labels = labels.to_contiguous();
    let of = |label: i64| usize::try_from(label).unwrap_or(classes);
    match labels.dtype() {
        DType::I64 => labels
            .as_slice::<i64>()
            .map(|x| x.iter().map(|&x| of(x)).collect()),
        DType::I32 => labels
            .as_slice::<i32>()
            .map(|x| x.iter().map(|&x| of(x.into())).collect()),
        dtype => unreachable!("labels are cast beforehand, found {dtype:?}"),
    }
    .expect("labels are contiguous")
}

/// A sparse teacher, for all rows.
struct SparseRows {
    indices: Vec<usize>,
    log_p: FlexTensor,
    log_tail: FlexTensor,
    k: usize,
}

impl SparseRows {
    fn row(&self, n: usize) -> SparseRow<'_> {
        let log_p: &[f32] = self
            .log_p
            .as_slice()
            .expect("log-probabilities are contiguous");
        let log_tail: &[f32] = self
            .log_tail
            .as_slice()
            .expect("tail probabilities are contiguous");
        SparseRow {
            indices: of_row(&self.indices, n, self.k),
            log_p: of_row(log_p, n, self.k),
            log_tail: log_tail[n],
        }
    }
}

/// All rows of a batch.
struct Job<'a, T> {
    formula: Formula,
    classes: usize,
    student: &'a [T],
    teacher: Teacher<'a, T>,
    labels: Option<&'a [usize]>,
    sparse: Option<&'a SparseRows>,
    weights: &'a [f32],
}

impl<T: Logit> Job<'_, T> {
    fn run(&self, values: &mut [f32], gradient: &mut [MaybeUninit<f32>]) {
        if self.classes == 0 || values.is_empty() {
            return;
        }
        let rows_per_task = (NUMBERS_PER_TASK / self.classes).max(1);
        if values.len() <= rows_per_task {
            return self.task(0, values, gradient);
        }
        let values = values.par_chunks_mut(rows_per_task).enumerate();
        if gradient.is_empty() {
            values.for_each(|(i, values)| self.task(i * rows_per_task, values, &mut []));
        } else {
            let gradient = gradient.par_chunks_mut(rows_per_task * self.classes);
            values
                .zip(gradient)
                .for_each(|((i, values), gradient)| self.task(i * rows_per_task, values, gradient));
        }
    }

    /// Runs neighbouring rows on this thread, from the row `first` on.
    fn task(&self, first: usize, values: &mut [f32], gradient: &mut [MaybeUninit<f32>]) {
        SCRATCH.with_borrow_mut(|scratch| {
            let len = scratch_len(self.classes, MOST_LANES);
            if scratch.len() < len {
                scratch.resize(len, 0.0);
            }
            // What runs under `dispatch` is compiled for the instruction set if it is inlined as a
            // whole: no function of another crate may come in between.
            Arch::new().dispatch(Task {
                job: self,
                first,
                values,
                gradient,
                scratch,
            });
        });
    }
}

/// Some neighbouring rows, for one thread.
struct Task<'a, T> {
    job: &'a Job<'a, T>,
    /// The index of the first row in the batch.
    first: usize,
    values: &'a mut [f32],
    gradient: &'a mut [MaybeUninit<f32>],
    scratch: &'a mut [f32],
}

/// As many lanes as the widest vectors have.
const MOST_LANES: usize = 16;

thread_local! {
    /// Scratch for one row, kept from batch to batch.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

impl<T: Logit> WithSimd for Task<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Job {
            formula,
            classes,
            student,
            teacher,
            labels,
            sparse,
            weights,
        } = *self.job;
        let scratch = &mut self.scratch[..scratch_len(classes, S::F32_LANES)];
        let mut gradients = self.gradient.chunks_mut(classes);
        for (i, value) in self.values.iter_mut().enumerate() {
            let n = self.first + i;
            let label = labels.map_or(0, |labels| labels[n]);
            let weight = weights[n];
            assert!(
                label < classes || weight == 0.0,
                "a label is out of range: there are {classes} classes"
            );
            let inputs = Row {
                student: of_row(student, n, classes),
                teacher: match teacher {
                    Teacher::At(teacher) => Teacher::At(of_row(teacher, n, classes)),
                    others => others,
                },
                sparse: sparse.map(|sparse| sparse.row(n)),
                label,
                weight,
                gradient: gradients.next().unwrap_or_default(),
            };
            *value = row(simd, formula, inputs, scratch);
        }
    }
}

/// A row of a batch; empty where the batch is.
fn of_row<T>(numbers: &[T], n: usize, classes: usize) -> &[T] {
    numbers
        .get(n * classes..(n + 1) * classes)
        .unwrap_or_default()
}
