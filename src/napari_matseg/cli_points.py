"""The commands about points: where the particles are, and one mask for each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_matseg.errors import InputError, MatsegError, SettingsError
from napari_matseg.settings import CentreSettings, EverythingSettings, PromptSettings, make_settings
from napari_matseg.terminal import show, warn

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_matseg.core.micrograph import Micrograph
    from napari_matseg.core.progress import Progress
    from napari_matseg.core.prompt import PromptSession
    from napari_matseg.prompting import Objects

ASK, FIND, ALL = PromptSettings(), CentreSettings(), EverythingSettings()

DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
PixelSizeOption = Annotated[
    float | None, typer.Option(help="Pixel size in nm, where the file does not state it or is wrong.", min=1e-9)
]
KeepBarOption = Annotated[bool, typer.Option("--keep-data-bar", help="Do not leave out the instrument's data bar.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(centres)
    app.command()(prompt)


def centres(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Micrograph.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="CSV file for the points.")],
    method: Annotated[
        str,
        typer.Option(help="model (a segmentation model), log (Laplacian of Gaussian) or doh (determinant of Hessian)."),
    ] = FIND.method,
    model: Annotated[str, typer.Option("--model", "-m", help="Segmentation model, for method model.")] = FIND.model,
    min_diameter_px: Annotated[float | None, typer.Option(help="Smallest diameter in pixels.")] = None,
    max_diameter_px: Annotated[float | None, typer.Option(help="Largest diameter in pixels.")] = None,
    min_diameter_nm: Annotated[float | None, typer.Option(help="Smallest diameter in nm.")] = None,
    max_diameter_nm: Annotated[float | None, typer.Option(help="Largest diameter in nm.")] = None,
    polarity: Annotated[str, typer.Option(help="Of blobs: bright, dark or either.")] = FIND.polarity,
    contrast: Annotated[float, typer.Option(help="Of blobs: least contrast, 0 to 1.")] = FIND.contrast,
    exclude_edge: Annotated[
        bool, typer.Option("--exclude-edge", help="Leave out what reaches the edge.")
    ] = FIND.exclude_edge,
    keep_data_bar: KeepBarOption = False,
    pixel_size: PixelSizeOption = None,
    device: DeviceOption = FIND.device,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a line.")] = False,
) -> None:
    """Find the centres of particles: writes a table of points, y and x in pixels, one row for each."""
    from napari_matseg.core.point_files import write_points
    from napari_matseg.prompting import centre_steps

    settings = make_settings(
        CentreSettings,
        method=method,
        model=model,
        min_diameter_px=min_diameter_px,
        max_diameter_px=max_diameter_px,
        min_diameter_nm=min_diameter_nm,
        max_diameter_nm=max_diameter_nm,
        polarity=polarity,
        contrast=contrast,
        exclude_edge=exclude_edge,
        exclude_data_bar=not keep_data_bar,
        device=device,
    )
    if out.resolve() == image.resolve():
        raise SettingsError(f"{image} would be replaced by its points; choose another file with --out.")
    table = show(centre_steps(_read(image, pixel_size), settings), image.name)
    write_points(out, table)
    n = len(table.points_yx)
    print(json.dumps({"image": str(image), "points": str(out), "count": n}) if as_json else f"{n} centres -> {out}")


def prompt(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Micrographs; one with --points or --boxes.")],
    points: Annotated[
        Path | None,
        typer.Option(help="CSV with y,x in pixels or y_nm,x_nm, and optionally object, polarity and plane."),
    ] = None,
    boxes: Annotated[Path | None, typer.Option(help="CSV with y0,x0,y1,x1, and optionally object and plane.")] = None,
    detect: Annotated[bool, typer.Option("--detect", help="Find the centres first, as `centres` does.")] = False,
    everything: Annotated[bool, typer.Option("--everything", help="Segment all there is, without points.")] = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results; made if it is missing.")] = Path(),
    model: Annotated[
        str, typer.Option("--model", "-m", help="Promptable model (see `napari-matseg models`), or a checkpoint.")
    ] = ASK.model,
    choice: Annotated[str, typer.Option(help="Mask for a single click: best, part, particle or agglomerate.")] = (
        ASK.choice
    ),
    min_area_nm2: Annotated[float | None, typer.Option(help="Smallest area of an object in nm².")] = None,
    max_area_nm2: Annotated[float | None, typer.Option(help="Largest area of an object in nm².")] = None,
    min_area_px: Annotated[float | None, typer.Option(help="Smallest area of an object in pixels.")] = None,
    max_area_px: Annotated[float | None, typer.Option(help="Largest area of an object in pixels.")] = None,
    overlaps: Annotated[
        str, typer.Option(help="Whose pixels of two objects are: score, smaller or separate.")
    ] = ASK.overlaps,
    fill_holes: Annotated[int, typer.Option(help="Fill holes of up to so many pixels.")] = ASK.fill_holes_px,
    drop_specks: Annotated[int, typer.Option(help="Drop pieces of up to so many pixels.")] = ASK.drop_specks_px,
    spacing: Annotated[float | None, typer.Option(help="Of the grid for --everything, in pixels.")] = ALL.spacing,
    scale: Annotated[float | None, typer.Option(help="Magnification that the model sees.")] = ASK.scale,
    views: Annotated[int, typer.Option(help="Look 1, 2 or 4 times, mirrored; slower and more exact.")] = ASK.views,
    keep_data_bar: KeepBarOption = False,
    pixel_size: PixelSizeOption = None,
    device: DeviceOption = ASK.device,
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = ASK.precision,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Make one mask for each point: writes STEM_labels.tif, _objects.csv, _overlay.png and _record.json."""
    from napari_matseg.core.prompt import PromptSession
    from napari_matseg.prompting import save_objects

    given = [points is not None or boxes is not None, detect, everything]
    if sum(given) != 1:
        raise SettingsError(
            "say what to segment with one of --points (with or without --boxes), --detect, --everything."
        )
    if given[0] and len(images) > 1:
        raise SettingsError("points and boxes belong to one image; give one, or --detect or --everything for several.")
    _check_names(images, [path for path in (points, boxes) if path is not None], out)
    session = PromptSession(
        make_settings(
            PromptSettings,
            model=model,
            choice=choice,
            area_nm2=_range(min_area_nm2, max_area_nm2),
            area_px=_range(min_area_px, max_area_px),
            overlaps=overlaps,
            fill_holes_px=fill_holes,
            drop_specks_px=drop_specks,
            scale=scale,
            views=views,
            exclude_data_bar=not keep_data_bar,
            device=device,
            precision=precision,
        )
    )
    done: dict[str, Any] = {}
    for image in images:
        try:
            micrograph = _read(image, pixel_size)
            work = _work(micrograph, session, points, boxes, detect=detect, spacing=spacing)
            result = show(work, image.name)
            files = save_objects(result, micrograph, out, image.stem)
        except MatsegError as error:
            if len(images) == 1:
                raise
            warn(error)
            continue
        for left in result.left:
            warn(f"{image}: {left}")
        flagged = result.record["flagged"]
        done[str(image)] = {
            "objects": len(result.table),
            "flagged": flagged,
            "left_out": [str(left) for left in result.left],
            "files": {what: str(path) for what, path in files.items()},
        }
        if not as_json:
            look = f", {flagged} of them flagged for a look" if flagged else ""
            print(f"{image} -> {files['labels']}: {len(result.table)} objects{look}")
    if as_json:
        print(json.dumps(done, indent=2))
    if failed := len(images) - len(done):
        raise InputError(f"{failed} of {len(images)} images failed, for the reasons above; the others are done.")


def _work(
    micrograph: Micrograph,
    session: PromptSession,
    points: Path | None,
    boxes: Path | None,
    *,
    detect: bool,
    spacing: float | None,
) -> Generator[Progress, None, Objects]:
    from napari_matseg.core.point_files import read_boxes, read_points
    from napari_matseg.core.prompts import make_prompts
    from napari_matseg.prompting import everything_in_steps, find_steps, prompt_steps

    settings = session.settings
    if detect:
        how = CentreSettings(device=settings.device, exclude_data_bar=settings.exclude_data_bar)
        return find_steps(micrograph, how, session)
    if points is None and boxes is None:
        return everything_in_steps(micrograph, make_settings(EverythingSettings, spacing=spacing), session)
    clicked = None if points is None else read_points(points, micrograph.pixel_size_nm)
    drawn = None if boxes is None else read_boxes(boxes, micrograph.pixel_size_nm)
    prompts, left = make_prompts(
        [] if clicked is None else clicked.points_yx,
        objects=None if clicked is None else clicked.objects,
        polarity=None if clicked is None else clicked.positive,
        planes=None if clicked is None else clicked.planes,
        boxes_yx=None if drawn is None else drawn.boxes_yx,
        box_objects=None if drawn is None else drawn.objects,
        box_planes=None if drawn is None else drawn.planes,
        shape_yx=micrograph.shape_yx,
        n_planes=micrograph.n_planes,
        rows=micrograph.content_rows if settings.exclude_data_bar else None,
    )
    return prompt_steps(micrograph, prompts, session, left=left)


def _read(image: Path, pixel_size: float | None) -> Micrograph:
    from napari_matseg.core.read import read

    return read(image, pixel_size_nm=pixel_size)


def _check_names(images: list[Path], given: list[Path], out: Path) -> None:
    from napari_matseg.prompting import RESULT_ENDINGS

    kept = {path.resolve(): path for path in (*images, *given)}
    stems: set[str] = set()
    for image in images:
        if image.stem in stems:
            raise SettingsError(f"two images are called {image.stem}; segment them into different folders.")
        stems.add(image.stem)
        for ending in RESULT_ENDINGS:
            if (lost := kept.get((out / f"{image.stem}{ending}").resolve())) is not None:
                raise SettingsError(f"{lost} would be replaced by a result; choose another folder with --out.")


def _range(low: float | None, high: float | None) -> tuple[float, float] | None:
    if low is None and high is None:
        return None
    return 1e-12 if low is None else low, 1e30 if high is None else high
