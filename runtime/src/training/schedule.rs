//! The course of the learning rate, with the arithmetic of the schedules of `transformers`.

use std::f64::consts::PI;

use jam_ir::recipe::{Schedule, ScheduleKind};

/// The rate of optimizer step `step`, counted from 0, of `steps`.
///
/// During the warm-up it is peak · step / warm-up, so that the first step does nothing; after it,
/// it goes from the peak to `floor` · peak at step `steps` along a line or half a cosine.
pub fn learning_rate(schedule: &Schedule, peak: f64, step: u64, steps: u64) -> f64 {
    if step < schedule.warmup {
        return peak * step as f64 / schedule.warmup as f64;
    }
    let length = steps.saturating_sub(schedule.warmup).max(1);
    let gone = ((step - schedule.warmup) as f64 / length as f64).min(1.0);
    let share = match schedule.kind {
        ScheduleKind::Constant => return peak,
        ScheduleKind::Linear => 1.0 - gone,
        ScheduleKind::Cosine => 0.5 * (1.0 + (PI * gone).cos()),
    };
    peak * (schedule.floor + (1.0 - schedule.floor) * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(kind: ScheduleKind, floor: f64, step: u64) -> f64 {
        learning_rate(
            &Schedule {
                kind,
                warmup: 4,
                floor,
            },
            1e-3,
            step,
            20,
        )
    }

    /// The numbers are those of transformers' `get_linear_schedule_with_warmup` and
    /// `get_cosine_schedule_with_warmup`.
    #[test]
    fn rates_are_those_of_transformers() {
        let linear = [
            (0, 0.0),
            (1, 2.5e-4),
            (3, 7.5e-4),
            (4, 1e-3),
            (5, 9.375e-4),
            (10, 6.25e-4),
            (19, 6.25e-5),
            (20, 0.0),
            (24, 0.0),
        ];
        let cosine = [
            (0, 0.0),
            (2, 5e-4),
            (4, 1e-3),
            (5, 9.903926402016153e-4),
            (10, 6.91341716182545e-4),
            (19, 9.607359798384786e-6),
            (20, 0.0),
        ];
        for (step, expected) in linear {
            assert!(
                (rate(ScheduleKind::Linear, 0.0, step) - expected).abs() < 1e-15,
                "step {step}"
            );
        }
        for (step, expected) in cosine {
            assert!(
                (rate(ScheduleKind::Cosine, 0.0, step) - expected).abs() < 1e-15,
                "step {step}"
            );
        }
    }

    #[test]
    fn a_floor_is_reached_and_kept() {
        for kind in [ScheduleKind::Linear, ScheduleKind::Cosine] {
            assert!((rate(kind, 0.1, 20) - 1e-4).abs() < 1e-15);
            assert!((rate(kind, 0.1, 100) - 1e-4).abs() < 1e-15);
            assert!((rate(kind, 0.1, 4) - 1e-3).abs() < 1e-15);
        }
        assert_eq!(rate(ScheduleKind::Constant, 0.1, 20), 1e-3);
    }
}
