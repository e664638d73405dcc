"""Changes of the code that a test must find: ``python -m tests.mutations [NAME ...]`` tries them in a copy.

It prints for each whether its test fails, as it should, and exits with 1 where one passes. No check runs it: when
all were found last is in ``tests/README.md``.
"""

import functools
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Mutation:
    """A change of one place of a file, and the test that finds it."""

    name: str
    file: str
    old: str
    new: str
    test: str


ROWS = [  # name, file, old, new, test
    (
        "poly counts steps from 0",
        "util/loop/optim.py",
        "(1 - (step + 1) / steps) ** POWER",
        "(1 - step / steps) ** POWER",
        "tests/train/test_optimizers.py",
    ),
    (
        "patience is an epoch longer",
        "util/train/bookkeeping.py",
        "newest - progress.best_epoch >= self.epochs",
        "newest - progress.best_epoch > self.epochs",
        "tests/train/test_midway.py",
    ),
    (
        "best.pth lacks the average that was validated",
        "util/train/bookkeeping.py",
        "        with training.ema.applied():\n            self.save(training, BEST, resumable=False)",
        "        self.save(training, BEST, resumable=False)",
        "tests/train/test_midway.py",
    ),
    (
        "dropouts are seeded without the rank",
        "util/loop/train.py",
        "{progress.step} {training.world.rank}",
        "{progress.step}",
        "tests/train/test_midway.py",
    ),
    (
        "the triplet has no auxiliary weight",
        "model/symnet/losses.py",
        'if name == "main" else',
        'if name in ("main", "triplet") else',
        "tests/model/test_symnet.py::test_every_loss_but_the_main_one_has_the_auxiliary_weight",
    ),
    (
        "a crop is drawn again 30 times",
        "util/data/augmentation.py",
        "for _ in range(KEEP_TRIES)",
        "for _ in range(KEEP_TRIES - 1)",
        "tests/data/test_augmentation.py",
    ),
    (
        "a group's lr_factor is ignored",
        "util/loop/optim.py",
        """settings[name].lr * group["factor"] * factor""",
        "settings[name].lr * factor",
        "tests/train/test_optimizers.py",
    ),
    (
        "views are drawn by numpy's global generator",
        "util/data/episodes.py",
        "random = random_stream(self.sampler.seed, AUGMENT, key.number, slot)",
        "random = np.random.mtrand._rand; random.integers = np.random.randint",
        "tests/data/test_episodes.py",
    ),
    (
        "episodes with replacement need every support once",
        "util/data/sampling.py",
        "rows[rows != query], self.shots, self.with_replacement)",
        "rows[rows != query], self.shots, False)",
        "tests/data/test_sampling.py::test_episodes_of_a_fixed_list_never_change",
    ),
    (
        "interleaved folds lack the last class",
        "util/config/folds.py",
        "classes[fold : whole : data.folds]",
        "classes[fold : whole - 1 : data.folds]",
        "tests/data/test_lists.py::test_folds_are_blocks_of_five_or_every_fourth_class",
    ),
    (
        "the foreground's intersection is that of the background",
        "util/loop/metrics.py",
        "foreground_intersection = labelled - union[0]",
        "foreground_intersection = intersection[0]",
        "tests/evaluate/test_metrics.py::test_scores_of_episodes_equal_a_recount",
    ),
    (
        "a kept support forgets the other ways' classes",
        "util/evaluate/store.py",
        "(row, class_id, classes)",
        "(row, class_id)",
        "tests/evaluate/test_store.py::test_a_kept_support_is_of_all_classes_whose_pixels_its_label_ignores",
    ),
    (
        "text vectors do not decide a test",
        "util/evaluate/done.py",
        """        "vectors": lambda: evaluation.run.text_digest,\n""",
        "",
        "tests/evaluate/test_done.py",
    ),
    (
        "two foreign best.pth share a folder",
        "util/evaluate/evaluation.py",
        "os.path.relpath(str(self.run.weights_file), self.config.run.folder)",
        "os.path.basename(str(self.run.weights_file))",
        "tests/evaluate/test_done.py",
    ),
    (
        "a crop keeps class 1",
        "util/data/episodes.py",
        "self.augment, random, value)",
        "self.augment, random, 1)",
        "tests/data/test_episodes.py",
    ),
    (
        "an interval of 90 % is called one of 95 %",
        "util/report/compare.py",
        "[2.5, 97.5]",
        "[5, 95]",
        "tests/report/test_compare.py::test_the_interval_is_as_wide_as_theory_says",
    ),
    (
        "facts that one side does not know are differences",
        "util/weights/origin.py",
        "None not in (theirs, ours) and ",
        "",
        "tests/evaluate/test_done.py::test_what_is_not_known_is_no_difference_and_an_empty_list_is_one",
    ),
    (
        "a side that a model does not take is not told",
        "util/run/input_size.py",
        "elif view.side != view.label_side:",
        "elif view.side > view.label_side + 1:",
        "tests/data/test_views.py::test_every_protocol_finds_a_size_that_the_model_takes",
    ),
    (
        "a file's name may lead out of its folder on Windows",
        "util/files/names.py",
        """{"/", "\\\\", "\\0"}""",
        """{"/", "\\0"}""",
        "tests/test_files.py::test_a_name_in_a_file_that_leads_elsewhere_is_refused",
    ),
    (
        "a kernel of the prior is shorter",
        "model/symnet/steps.py",
        "((7, 1), 1, (3, 0))",
        "((5, 1), 1, (2, 0))",
        "tests/model/test_symnet.py::test_the_prior_is_that_of_the_papers_matrix_of_cosines",
    ),
    (
        "a row of YOLO is of the class before its own",
        "annotations/yolo.py",
        "annotations.categories = {number + 1: name",
        "annotations.categories = {number + 2: name",
        "tests/annotations/test_writers.py::test_written_annotations_are_read_back",
    ),
    (
        "a photo is moved to a side though a class lacks one then",
        "datasets/division.py",
        "(left >= LEAST_PHOTOS)[can & shown_by[place]].all()",
        "True",
        "tests/datasets/test_custom_split.py::test_each_side_of_the_split_keeps_two_photos_of_each_class",
    ),
    (
        "a class that plays a novel one suppresses itself",
        "model/kinds/with_base_learner.py",
        "episode.base_id if self.training else episode.spared_class",
        "episode.base_id if self.training else None",
        "tests/model/test_symnet.py",
    ),
    (
        "parts of every class have the scores of the first",
        "photos/prediction.py",
        "self._alone(index).ravel()",
        "self._alone(0).ravel()",
        "tests/photos/test_prediction.py",
    ),
    (
        "an ellipse is a circle",
        "annotations/shapes.py",
        "radius_y * np.sin(angle)",
        "radius_x * np.sin(angle)",
        "tests/annotations/test_labelstudio.py",
    ),
    (
        "a photo is found by its name without a word",
        "annotations/photo_files.py",
        "        self._note_elsewhere(photos[0], path, source)\n",
        "",
        "tests/annotations/test_photo_files.py",
    ),
    (
        "the score of a mask leaves out its bias",
        "photos/calibration.py",
        " + self.mask.bias)",
        ")",
        "tests/photos/test_calibration.py::test_the_score_of_a_mask_is_how_often_it_overlaps_by_half",
    ),
    (
        "a protocol scores on other labels than its page says",
        "config/default.yaml",
        "{draw: pfenet, query: sequential, episodes: 1000, seeds: [510, 365, 382, 322, 988], input: letterbox,\n"
        "     scored_on: square}",
        "{draw: pfenet, query: sequential, episodes: 1000, seeds: [510, 365, 382, 322, 988], input: letterbox,\n"
        "     scored_on: letterbox}",
        "tests/cli/test_published_settings.py::test_protocols_are_those_of_the_page",
    ),
    (
        "a prediction that is not finite is counted in the middle of a pass",
        "util/loop/score.py",
        "finite &= torch",
        "finite = torch",
        "tests/run/test_network.py::test_a_prediction_that_is_not_finite_in_the_middle_of_a_pass_is_refused",
    ),
    (
        "an image that is rotated and flipped is shifted by a pixel",
        "util/data/augmentation.py",
        "[-1, 0, new_width - 1]",
        "[-1, 0, new_width]",
        "tests/data/test_augmentation.py",
    ),
    (
        "a stretched label is interpolated",
        "util/data/augmentation.py",
        "classes = cut.of(given, cv2.INTER_NEAREST, (IGNORE,))",
        "classes = cut.of(given, cv2.INTER_LINEAR, (IGNORE,))",
        "tests/data/test_augmentation.py",
    ),
    (
        "no class of a validation on base classes is spared",
        "util/data/episodes.py",
        "            episode.spared_class = episode.base_id",
        "            pass",
        "tests/data/test_episodes.py",
    ),
    (
        "no checkpoint is written by time",
        "util/train/bookkeeping.py",
        "if time.monotonic() - self.saved_at > SAVE_SECONDS:",
        "if False:",
        "tests/train/test_midway.py::test_the_last_checkpoint_is_at_most_so_old",
    ),
    (
        "kept maps of a support are found without its mask",
        "util/train/kept_features.py",
        '{"image": image, "label": label})',
        '{"image": image})',
        "tests/train/test_kept_features.py::test_maps_are_kept_by_image_and_mask",
    ),
    (
        "a record of floats makes its counts float32",
        "util/loop/metrics.py",
        'np.int64 if values.dtype.kind in "iub" else np.float64',
        "values.dtype",
        "tests/evaluate/test_metrics.py::test_a_mean_of_episodes_is_averaged_within_its_class_first",
    ),
    (
        "a training that an observer ends inside an epoch has no record there",
        "util/loop/train.py",
        "if progress.on_record or not (is_due or progress.ended_by):",
        "if progress.on_record or not is_due:",
        "tests/train/test_observers.py",
    ),
    (
        "a further metric is no reason to test again",
        "util/evaluate/done.py",
        'if set(evaluation.config.test.metrics) <= set(scored["test"]["metrics"]):',
        "if True:",
        "tests/evaluate/test_done.py::test_a_result_is_kept_unless_what_decides_its_scores_changed",
    ),
    (
        "other photos are no reason to test again",
        "util/evaluate/done.py",
        """        "content": lambda: evaluation.images.files_digest,\n""",
        "",
        "tests/evaluate/test_done.py::test_a_result_is_kept_unless_what_decides_its_scores_changed",
    ),
    (
        "photos are divided by a hash that each process draws anew",
        "datasets/division.py",
        "hashlib.sha256(name.encode()).hexdigest()",
        "hash(name)",
        "tests/datasets/test_custom_split.py::test_each_fourth_photo_by_the_digest_of_its_name_is_to_test",
    ),
    (
        "a checkpoint is read without its moving average",
        "util/weights/checkpoint.py",
        """{**entries["weights"], **entries.get("ema", {})}""",
        """entries["weights"]""",
        "tests/train/test_midway.py::test_every_epoch_but_the_first_is_validated_in_its_middle_too",
    ),
    (
        "the supports of a validation are in the order of their draw",
        "util/run/data.py",
        "last_support_first=protocol.draw == PFENET",
        "last_support_first=False",
        "tests/data/test_episodes.py::test_a_class_is_spared_in_a_validation_on_base_classes_alone",
    ),
    (
        "a shot has the weight of another one",
        "model/parts/base_learner.py",
        "torch.zeros_like(score).scatter(1, order, score)",
        "score.gather(1, order)",
        "tests/model/test_single_methods.py::test_each_of_three_shots_has_the_weight_of_its_distance_in_any_order",
    ),
    (
        "a request to the page may be of any length",
        "photos/page/server.py",
        "or int(length) > limit:",
        "or limit < 0:",
        "tests/photos/page/test_page.py::test_requests_of_others_are_refused",
    ),
    (
        "a page of others may show the page in a frame",
        "photos/page/server.py",
        """    "X-Frame-Options": "DENY",\n""",
        "",
        "tests/photos/page/test_page.py::test_requests_of_others_are_refused",
    ),
    (
        "a checkpoint has its name before it is on the disk",
        "util/files/writing.py",
        "os.fsync(file.fileno())",
        "pass",
        "tests/weights/test_checkpoint.py::test_a_checkpoint_is_on_the_disk_before_it_has_its_name",
    ),
    (
        "a crop is never at the end of an image",
        "util/data/augmentation.py",
        "length - size + 1",
        "length - size",
        "tests/data/test_augmentation.py::test_a_crop_begins_at_each_place_that_holds_it",
    ),
    (
        "an old mask remains beside a new result",
        "photos/prediction.py",
        "    remove(mask)\n",
        "",
        "tests/photos/test_prediction.py::test_instances_and_saved_files_are_those_of_the_command",
    ),
    (
        "a class of exactly the least presence score is not shown",
        "photos/prediction.py",
        ">= decision.min_presence",
        "> decision.min_presence",
        "tests/photos/test_prediction.py::test_probabilities_are_calibrated",
    ),
    (
        "the gradients of several processes are divided twice",
        "model/parts/loss.py",
        "count = count / distributed.get_world_size()",
        "pass",
        "tests/model/test_contract.py::test_processes_with_unequal_shares_average_to_the_batchs_losses",
    ),
    (
        "the bilinear matrix of the text's alignment is transposed",
        "model/symnet/steps.py",
        "self.query(both) @ self.bilinear",
        "self.query(both) @ self.bilinear.T",
        "tests/model/test_symnet.py::test_a_prototype_is_aligned_by_the_papers_bilinear_attention",
    ),
]
MUTATIONS = [Mutation(*row) for row in ROWS]


def is_found(mutation: Mutation, copy: Path) -> bool:
    """Apply a mutation to a copy of the project, run its test there and undo it; return whether the test fails.

    SystemExit: the place of the mutation is not there, or the test fails without it.
    """
    path = copy / mutation.file
    before = path.read_text()
    if before.count(mutation.old) != 1:
        raise SystemExit(f"{mutation.name}: {mutation.file} must have its place once")
    if not unchanged(mutation.test, copy):
        raise SystemExit(f"{mutation.test} fails without a mutation")
    path.write_text(before.replace(mutation.old, mutation.new))
    found = not passes(mutation.test, copy)
    path.write_text(before)
    return found


@functools.cache
def unchanged(test: str, copy: Path) -> bool:
    """Return whether the tests of a file pass in the copy as it is."""
    return passes(test, copy)


def passes(test: str, copy: Path) -> bool:
    """Return whether the quick tests of a file pass, or one that is named; SystemExit: none could be run."""
    quick = [] if "::" in test else ["-m", "not process and not train"]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:xdist", *quick, test]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{test}: no test ran: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 0


def main(names: list[str]) -> int:
    chosen = [mutation for mutation in MUTATIONS if not names or mutation.name in names]
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
        for name in filter(None, tracked.stdout.split("\0")):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
        for mutation in chosen:
            found = is_found(mutation, copy)
            survivors += not found
            print(f"{'found' if found else 'SURVIVES'}: {mutation.name} ({mutation.test})", flush=True)
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
