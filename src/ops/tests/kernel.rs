//! Against sums written out in double precision, with central differences for gradients.

use burn::tensor::Device;

use super::*;

type Vectors = Vec<Vec<f64>>;

const KERNELS: [Kernel; 5] = [
    Kernel::Linear,
    Kernel::Polynomial {
        degree: 2,
        offset: 0.0,
    },
    Kernel::Polynomial {
        degree: 3,
        offset: 0.5,
    },
    Kernel::Polynomial {
        degree: 1,
        offset: 2.0,
    },
    Kernel::Gaussian,
];

fn student() -> Vectors {
    vec![vec![0.5, -1.0], vec![1.5, 0.25], vec![0.0, 0.75]]
}

fn teacher() -> Vectors {
    vec![vec![1.0, 0.5], vec![-0.5, 0.25]]
}

fn product(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

fn distance(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| (x - y) * (x - y)).sum()
}

fn mean(x: &Vectors, y: &Vectors, f: impl Fn(&[f64], &[f64]) -> f64) -> f64 {
    let pairs = x.iter().flat_map(|x| y.iter().map(move |y| (x, y)));
    let sum: f64 = pairs.map(|(x, y)| f(x, y)).sum();
    sum / (x.len() * y.len()) as f64
}

fn written_out(s: &Vectors, t: &Vectors, kernel: Kernel, bandwidth: f64) -> f64 {
    let k = |x: &[f64], y: &[f64]| match kernel {
        Kernel::Linear => product(x, y),
        Kernel::Polynomial { degree, offset } => (product(x, y) + offset).powi(degree as i32),
        Kernel::Gaussian => (-distance(x, y) / (2.0 * bandwidth)).exp(),
    };
    mean(s, s, k) + mean(t, t, k) - 2.0 * mean(s, t, k)
}

fn tensor(vectors: &Vectors, device: &Device) -> Tensor<3> {
    let flat: Vec<f32> = vectors.iter().flatten().map(|x| *x as f32).collect();
    let shape = [1, vectors.len(), vectors[0].len()];
    Tensor::<1>::from_floats(flat.as_slice(), device).reshape(shape)
}

fn computed(s: &Vectors, t: &Vectors, kernel: Kernel) -> (f32, Vec<f32>) {
    let device = Device::flex().autodiff();
    let leaf = tensor(s, &device).require_grad();
    let teacher = tensor(t, &Device::flex());
    let value = discrepancy(leaf.clone(), teacher, kernel, |k| k.mean_dim(2).mean_dim(1));
    let gradients = value.backward();
    let gradient = leaf.grad(&gradients).unwrap().into_data();
    (value.into_scalar::<f32>(), gradient.iter::<f32>().collect())
}

#[test]
fn every_kernel_is_the_sum_written_out() {
    let (s, t) = (student(), teacher());
    let bandwidth = mean(&s, &t, distance);
    for kernel in KERNELS {
        let (value, gradient) = computed(&s, &t, kernel);
        let expected = written_out(&s, &t, kernel, bandwidth);
        assert!((f64::from(value) - expected).abs() < 1e-5, "{kernel:?}");
        for (i, found) in gradient.iter().enumerate() {
            // The bandwidth stays where it is: it is a constant.
            let moved = |by: f64| {
                let mut s = s.clone();
                s[i / 2][i % 2] += by;
                written_out(&s, &t, kernel, bandwidth)
            };
            let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            let error = (f64::from(*found) - expected).abs();
            assert!(error < 1e-4, "{kernel:?} {i}: {found} is not {expected}");
        }
    }
}

#[test]
fn equal_sets_have_no_discrepancy_in_any_order() {
    let s = student();
    let turned: Vectors = s.iter().rev().cloned().collect();
    for kernel in KERNELS {
        let (value, gradient) = computed(&s, &turned, kernel);
        assert!(value.abs() < 1e-6, "{kernel:?}: {value}");
        assert!(gradient.iter().all(|g| g.abs() < 1e-6), "{kernel:?}");
    }
}

#[test]
fn a_gaussian_does_not_see_a_shift_or_a_scale() {
    let (s, t) = (student(), teacher());
    // In single precision all of these are exact, but their inner products are not.
    let moved = |x: &Vectors| -> Vectors {
        let of = |v: &Vec<f64>| v.iter().map(|x| 4096.0 + 4.0 * x).collect();
        x.iter().map(of).collect()
    };
    let (value, _) = computed(&s, &t, Kernel::Gaussian);
    let (other, _) = computed(&moved(&s), &moved(&t), Kernel::Gaussian);
    assert!(
        value > 0.1 && (value - other).abs() < 1e-4,
        "{value} and {other}"
    );
}

#[test]
fn vectors_that_coincide_leave_a_gaussian_finite() {
    let one = vec![vec![0.3, 0.7]];
    let other = vec![vec![-1e4, 1e4]];
    let zero = vec![vec![0.0, 0.0]];
    for (s, t) in [
        (&one, &one),
        (&zero, &zero),
        (&one, &other),
        (&other, &zero),
    ] {
        for repeat in [1, 3] {
            let many = |x: &Vectors| -> Vectors { vec![x[0].clone(); repeat] };
            let (value, gradient) = computed(&many(s), &many(t), Kernel::Gaussian);
            assert!(value.is_finite() && gradient.iter().all(|g| g.is_finite()));
            // σ² is the only squared distance there is: 2 − 2·exp(−1/2).
            let expected = match s == t {
                true => 0.0,
                false => 2.0 - 2.0 * (-0.5f32).exp(),
            };
            assert!((value - expected).abs() < 1e-4, "{s:?} {t:?}: {value}");
        }
    }
}

#[test]
fn numbers_out_of_range_are_refused() {
    let error = |kernel: Kernel| kernel.check("nst.kernel").unwrap_err().to_string();
    let polynomial = |degree, offset| Kernel::Polynomial { degree, offset };
    assert_eq!(
        error(polynomial(0, 1.0)),
        "nst.kernel.degree is 0, expected a whole number of at least 1"
    );
    assert_eq!(
        error(polynomial(2, -0.5)),
        "nst.kernel.offset is -0.5, expected a number of at least 0"
    );
    assert_eq!(
        error(polynomial(2, f64::INFINITY)),
        "nst.kernel.offset is inf, expected a number of at least 0"
    );
    assert!(polynomial(1, 0.0).check("nst.kernel").is_ok());
}
