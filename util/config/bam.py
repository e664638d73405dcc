"""The keys of configs of BAM, PFENet and Sym-Net's authors, for whom they are named where a key is unknown."""

NOTHING = "without a counterpart: leave it out"
TODAY = {  # their key -> what it is here, '' where it is nothing; none of them is a key of this project
    "DATA": "sections data, base_stage and meta_stage",
    "TRAIN": "sections data, model, meta_stage and run",
    "Method": "sections model and run",
    "LOSS": "the method's own losses",
    "Distributed": "the number of GPUs, after the data set",
    "Test_Finetune": "section test",
    "data_root": "data.root",
    "val_list": "data.test_list",
    "base_data_root": "",
    "train_h": "data.size",
    "train_w": "data.size",
    "val_size": "side of a protocol",
    "resized_val": "input of a protocol",
    "ori_resize": "scored_on of a protocol",
    "scale_min": "meta_stage.augment.scale",
    "scale_max": "meta_stage.augment.scale",
    "rotate_min": "meta_stage.augment.changes",
    "rotate_max": "meta_stage.augment.changes",
    "split": "data.fold",
    "data_set": "data.name",
    "use_coco": "data.name",
    "use_split_coco": "data.fold_rule",
    "batch_size": "meta_stage.batch, of all GPUs together",
    "batch_size_val": "test.batch",
    "base_lr": "meta_stage.optimizers.main.lr, ten times as large where index_split is -1",
    "index_split": "",
    "momentum": "kind: sgd of meta_stage.optimizers.main, whose momentum is 0.9",
    "power": "schedule: poly of meta_stage.optimizers.main, whose power is 0.9; constant is power 0",
    "stop_interval": "meta_stage.patience",
    "SubEpoch_val": "meta_stage.validate_midway",
    "evaluate": "meta_stage.validate_every",
    "fix_random_seed_val": "meta_stage.validate_seed",
    "manual_seed": "run.seed",
    "seed_deterministic": "run.deterministic",
    "save_freq": "",
    "print_freq": "",
    "start_epoch": "",
    "fix_bn": "",
    "layers": "net: resnet101 in this file, or NET=resnet101 with split0",
    "vgg": "net: vgg16 in this file, or NET=vgg16 with split0",
    "ppm_scales": "model.scales",
    "aux_weight1": "always 1; leave it out",
    "aux_weight2": "always 1; leave it out",
    "merge": "",
    "merge_tau": "",
    "kshot_trans_dim": "",
    "low_fea": "",
    "zoom_factor": "",
    "save_path": "run.folder",
    "snapshot_path": "run.folder",
    "result_path": "run.folder",
    "weight": "test.checkpoint",
    "ann_type": "",
    "ignore_label": "",
    "padding_label": "",
    "warmup": "",
}


def bam_hint(name: str) -> str:
    """Say what the name of an unknown key of a config is here, if it is one of theirs; '' if it is not."""
    today = TODAY.get(name, TODAY.get(name.upper()))
    if today is None:
        return ""
    return f"'{name}' is a key of BAM's configs, here {today or NOTHING}; see docs/from_bam.md in the repository"
