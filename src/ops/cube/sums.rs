//! Reductions over the units of a cube.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

/// Four numbers of a unit, which share their barriers.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Four {
    pub a: f32,
    pub b: f32,
    pub c: f32,
    pub d: f32,
}

/// The sums, or maxima, over all units. All units have to call it.
///
/// By halves, in shared memory: every GPU has it, unlike operations on planes.
#[cube]
pub(crate) fn together(mine: Four, #[comptime] is_maximum: bool, #[comptime] units: usize) -> Four {
    let mut room = Shared::<[f32]>::new_slice(4 * units);
    let unit = UNIT_POS as usize;
    room[unit] = mine.a;
    room[unit + units] = mine.b;
    room[unit + 2 * units] = mine.c;
    room[unit + 3 * units] = mine.d;
    sync_cube();
    let mut half = CUBE_DIM as usize / 2;
    while half > 0 {
        if unit < half {
            #[unroll]
            for lane in 0..4usize {
                let here = unit + lane * units;
                let x = room[here];
                let y = room[here + half];
                if comptime!(is_maximum) {
                    room[here] = max(x, y);
                } else {
                    room[here] = x + y;
                }
            }
        }
        sync_cube();
        half /= 2;
    }
    Four {
        a: room[0],
        b: room[units],
        c: room[2 * units],
        d: room[3 * units],
    }
}
