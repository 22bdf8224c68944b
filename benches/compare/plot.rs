//! Plots as SVG, of comparisons that differ in one number.

use std::{collections::BTreeMap, fs, path::Path};

use plotters::prelude::*;

use crate::{
    Result,
    comparison::{Plot, Point},
    report::Outcome,
};

const SIZE: (u32, u32) = (720, 420);
const FONT: (&str, u32) = ("sans-serif", 15);
const COLORS: [RGBColor; 3] = [RGBColor(11, 110, 79), RGBColor(196, 78, 48), BLUE];

/// Draws all plots of these comparisons into a folder. Comparisons of one file are one plot.
pub(crate) fn draw(outcomes: &[Outcome], folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let mut files = BTreeMap::<&str, (Plot, Vec<&Outcome>)>::new();
    for outcome in outcomes {
        if let Some(plot) = outcome.plot {
            let (_, outcomes) = files.entry(plot.file).or_insert((plot, Vec::new()));
            outcomes.push(outcome);
        }
    }
    for (name, (plot, outcomes)) in files {
        draw_one(plot, &outcomes, &folder.join(format!("{name}.svg")))?;
    }
    Ok(())
}

fn draw_one(plot: Plot, outcomes: &[&Outcome], file: &Path) -> Result<()> {
    let mut series = BTreeMap::<&str, Vec<(f64, f64)>>::new();
    let mut level = Vec::new();
    let contestants = outcomes.iter().flat_map(|outcome| &outcome.contestants);
    for contestant in contestants {
        let Some(spread) = contestant.measures.get(&plot.y) else {
            continue;
        };
        match &contestant.point {
            Some(Point { series: name, x }) => {
                series.entry(name).or_default().push((*x, spread.median));
            }
            None => level.push((contestant.label.as_str(), spread.median)),
        }
    }
    let mut xs: Vec<_> = series.values().flatten().map(|(x, _)| *x).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    let (Some(&least), Some(&most)) = (xs.first(), xs.last()) else {
        return Ok(());
    };
    for (name, y) in level {
        series.insert(name, vec![(least, y), (most, y)]);
    }
    let points = series.values().flatten();
    let highest = points.max_by(|(_, a), (_, b)| a.total_cmp(b));
    let (highest, top) = highest.map_or((most, 0.0), |(x, y)| (*x, y * 1.1));
    // Where it covers nothing.
    let legend = if highest == least {
        SeriesLabelPosition::UpperRight
    } else {
        SeriesLabelPosition::UpperLeft
    };

    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .margin(16)
        .margin_right(40)
        .x_label_area_size(44)
        .y_label_area_size(76)
        .build_cartesian_2d((least..most).log_scale().with_key_points(xs), 0.0..top)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .label_style(FONT)
        .axis_desc_style(FONT)
        .x_label_formatter(&|x| x.to_string())
        .y_label_formatter(&|y| ((y * 100.0).round() / 100.0).to_string())
        .x_desc(plot.x)
        .y_desc(plot.y.title())
        .draw()?;
    for ((name, points), color) in series.into_iter().zip(COLORS.iter().cycle()) {
        let style = color.stroke_width(2);
        let marks = points
            .iter()
            .map(|point| Circle::new(*point, 4, color.filled()));
        chart.draw_series(marks)?;
        chart
            .draw_series(LineSeries::new(points, style))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
    }
    chart
        .configure_series_labels()
        .label_font(FONT)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .position(legend)
        .draw()?;
    root.present()?;
    Ok(())
}
