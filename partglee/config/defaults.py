"""Every configuration key with its default. Values that configs leave alone are the released model's."""

from __future__ import annotations

from fvcore.common.config import CfgNode as CN

DEFAULT_RECIPE = "partglee"


def get_cfg() -> CN:
    """A fresh copy of the defaults; `merge_config` and `load_config` fill it from files and `KEY VALUE` pairs."""
    cfg = run_defaults()

    cfg.MODEL.EMBED_DIM = 256  # width of memory, queries and projected text
    cfg.MODEL.NUM_HEADS = 8  # attention heads everywhere but in the early fusion
    cfg.MODEL.NUM_LEVELS = 4  # memory levels: strides 8, 16, 32 and further halvings
    cfg.MODEL.NUM_POINTS = 4  # sampling points per head and level
    cfg.MODEL.FFN_DIM = 2048  # feed-forward width of encoder, decoders and Q-Former
    cfg.MODEL.PRIOR_PROB = 0.0  # start scores at this probability with one learned bias; 0 = no bias (released)
    cfg.MODEL.ACTIVATION_CHECKPOINTING = False  # recompute backbone stages and encoder layers in the backward pass

    cfg.MODEL.BACKBONE = CN()
    cfg.MODEL.BACKBONE.NAME = "resnet50"  # any timm feature extractor with strides 4, 8, 16, 32
    cfg.MODEL.BACKBONE.FROZEN_NORM = True  # batch norms as constants
    cfg.MODEL.BACKBONE.FREEZE_AT = 0  # all up to the map at stride 2^FREEZE_AT does not learn: 2 to 5; 0 = all learns
    cfg.MODEL.BACKBONE.OUTPUT_NORMS = False  # layer norm on every map (released Swin)
    cfg.MODEL.BACKBONE.DROP_PATH = 0.0  # stochastic depth; 0 = timm's default
    cfg.MODEL.BACKBONE.OPTIONS = CN(new_allowed=True)  # more keyword arguments for timm.create_model
    # timm state dict (.safetensors or .pth), or a ResNet of detectron2's model zoo (.pkl), to start training from
    cfg.MODEL.BACKBONE.WEIGHTS = ""

    cfg.MODEL.TEXT = CN()
    cfg.MODEL.TEXT.BACKEND = "clip"  # clip | table | bert, or what a project adds to `partglee.text.BACKENDS`
    cfg.MODEL.TEXT.ARCH = "ViT-B-32-quickgelu"  # open_clip architecture of the text tower
    cfg.MODEL.TEXT.MODE = (
        "frozen"  # frozen | trainable | distill (trainable beside a frozen teacher: released training)
    )
    cfg.MODEL.TEXT.CACHE_DIR = ""  # also keep encoded names on disk here; "" = in memory only
    cfg.MODEL.TEXT.TABLE = CN()
    cfg.MODEL.TEXT.TABLE.FILE = ""  # .npz or .safetensors with names and embeddings
    cfg.MODEL.TEXT.TABLE.WIDTH = 1024  # width of the embeddings in the file
    cfg.MODEL.TEXT.TABLE.PROJECTED = False  # True: the file holds vectors that the text projection has been applied to

    cfg.MODEL.TEXT.BERT = CN()
    cfg.MODEL.TEXT.BERT.PRETRAINED = (
        ""  # folder or name for the library transformers; "" = fresh weights of these sizes
    )
    cfg.MODEL.TEXT.BERT.VOCABULARY = ""  # vocab.txt or tokenizer.json; "" = what belongs to PRETRAINED
    cfg.MODEL.TEXT.BERT.WIDTH = 768
    cfg.MODEL.TEXT.BERT.NUM_LAYERS = 12
    cfg.MODEL.TEXT.BERT.NUM_HEADS = 12
    cfg.MODEL.TEXT.BERT.FFN_DIM = 3072
    cfg.MODEL.TEXT.BERT.NUM_WORDS = 30522  # rows of the table of WordPieces: those of VOCABULARY or more
    cfg.MODEL.TEXT.BERT.CONTEXT_LENGTH = 77  # longest name or expression in WordPieces, begin and end included

    cfg.MODEL.EARLY_FUSION = CN()
    # Referring expressions are always fused. Category names: the released training and SeginW/PartImageNet files leave
    # this off, the released COCO, PACO, Pascal-Part and ADE20K inference files switch it on.
    cfg.MODEL.EARLY_FUSION.CATEGORIES = False
    cfg.MODEL.EARLY_FUSION.INNER_DIM = 2048
    cfg.MODEL.EARLY_FUSION.NUM_HEADS = 8
    cfg.MODEL.EARLY_FUSION.DROPOUT = 0.1
    cfg.MODEL.EARLY_FUSION.RESIDUAL_FROM_NORM = True  # released: the skip starts at the normalised input
    cfg.MODEL.EARLY_FUSION.ATTEND_TO_PADDING = True  # released: the text mask masks nothing
    cfg.MODEL.EARLY_FUSION.UPDATE_TEXT = False  # released: the text output is computed and dropped

    cfg.MODEL.ENCODER = CN()
    cfg.MODEL.ENCODER.NUM_LAYERS = 6
    cfg.MODEL.ENCODER.FFN_DIM = 0  # feed-forward width of the encoder; 0 = MODEL.FFN_DIM
    cfg.MODEL.ENCODER.SEPARABLE = False  # the step to the finest map by a convolution of each channel and one over them

    cfg.MODEL.OBJECT_DECODER = CN()
    cfg.MODEL.OBJECT_DECODER.NUM_LAYERS = 9
    cfg.MODEL.OBJECT_DECODER.NUM_QUERIES = 300
    cfg.MODEL.OBJECT_DECODER.NUM_PARSED = 50  # best object queries that are parsed into parts
    # a vocabulary by whose objects queries are selected too in inference, so that scores do not depend on what else is
    # asked for; "" = by those that are asked for alone (released)
    cfg.MODEL.OBJECT_DECODER.SELECTION = ""
    cfg.MODEL.OBJECT_DECODER.UNSEEN_SHIFT = 0.0  # added in inference to the logits of objects that SELECTION lacks
    cfg.MODEL.OBJECT_DECODER.DENSE_HEAD = False  # that INPUT.TRAIN.TEACHER teaches; exported weights do not have it

    cfg.MODEL.QFORMER = CN()
    cfg.MODEL.QFORMER.NUM_LAYERS = 6
    cfg.MODEL.QFORMER.NUM_QUERIES = 10  # parsing queries, so parts per object

    cfg.MODEL.PART_DECODER = CN()
    cfg.MODEL.PART_DECODER.NUM_LAYERS = 9
    # part queries attend to those of their own object alone: parts do not depend on what else is parsed, so that in
    # inference only objects that are kept need be parsed; False: to all of the image (released)
    cfg.MODEL.PART_DECODER.WITHIN_OBJECTS = False

    cfg.MODEL.DENOISING = CN()
    cfg.MODEL.DENOISING.NUM_QUERIES = 100  # 0 = no denoising
    cfg.MODEL.DENOISING.LABEL_NOISE = 0.2
    cfg.MODEL.DENOISING.BOX_NOISE = 0.4
    cfg.MODEL.DENOISING.CONTRASTIVE = False  # released: plain copies, no negatives

    cfg.CRITERION = CN()
    cfg.CRITERION.PART_MATCHING = "global"  # global (released) | within_parent (known parents: only their own queries)
    # released: images x matched parts | paper: Eq. 4, no normaliser (then WEIGHT.RESTRICTION 5) | mean: matched parts,
    # which is what the released code computes at its one image per GPU
    cfg.CRITERION.RESTRICTION_NORM = "released"
    cfg.CRITERION.FOCAL_ALPHA = 0.25
    cfg.CRITERION.FOCAL_GAMMA = 2.0
    cfg.CRITERION.NUM_POINTS = 12544  # points at which masks are compared, in matching and losses
    cfg.CRITERION.OVERSAMPLE = 3.0  # mask losses draw this many times more points ...
    cfg.CRITERION.IMPORTANCE = 0.75  # ... and take this share of theirs where the prediction is undecided
    cfg.CRITERION.POINTS_NEAR = (
        0.0  # share of all points in or around a target's box: tiny parts are seen (released: 0)
    )
    cfg.CRITERION.WEIGHT = CN()  # of the losses; 0 = the term is not computed into the sum
    cfg.CRITERION.WEIGHT.CLASS = 4.0
    cfg.CRITERION.WEIGHT.L1 = 5.0
    cfg.CRITERION.WEIGHT.GIOU = 2.0
    cfg.CRITERION.WEIGHT.MASK = 5.0
    cfg.CRITERION.WEIGHT.DICE = 5.0
    cfg.CRITERION.WEIGHT.RESTRICTION = 0.1  # the paper says 5
    cfg.CRITERION.WEIGHT.DISTILLATION = 8.0  # released: 4, counted at both levels
    cfg.CRITERION.WEIGHT.DENSE = 8.0  # of MODEL.OBJECT_DECODER.DENSE_HEAD
    cfg.CRITERION.COST = CN()  # of the matching
    cfg.CRITERION.COST.CLASS = 4.0
    cfg.CRITERION.COST.L1 = 5.0
    cfg.CRITERION.COST.GIOU = 2.0
    cfg.CRITERION.COST.MASK = 5.0
    cfg.CRITERION.COST.DICE = 5.0

    # yolox_nano.onnx, whose scores at every place of a training image teach MODEL.OBJECT_DECODER.DENSE_HEAD; "" = none
    cfg.INPUT.TRAIN.TEACHER = ""

    cfg.TEST.BATCH_SIZE = 0  # images of one padded size that are searched together; 0 = 4 on a GPU, 1 on a processor
    # Evaluation: queries of each level by their best name, then pairs of query and name over both (released: PACO's)
    cfg.TEST.OBJECT_QUERIES = 100
    cfg.TEST.PART_QUERIES = 200
    cfg.TEST.DETECTIONS = 300
    # What an expression means: all objects that reach SCORE_THRESHOLD, or nothing; False = the best object (released)
    cfg.TEST.EXPRESSION_UNION = False
    # A vocabulary: expressions that mean one of its parts are answered by part queries; "" = all by objects
    cfg.TEST.EXPRESSION_PARTS = ""
    cfg.TEST.PART_OVERLAP = 1.0  # of equally named parts whose boxes overlap more, the best stays; 1 = all (released)
    cfg.TEST.MASK_BOX = 0.0  # masks end at so many times their box, 1.2 say; 0 = they lie anywhere (released)
    return cfg


def run_defaults() -> CN:
    """The keys that a run of any model reads: data, input, solver, evaluation. A project's recipe adds its model's."""
    cfg = CN()
    cfg.RECIPE = DEFAULT_RECIPE  # which kind of model this is; a project registers others

    cfg.MODEL = CN()
    cfg.MODEL.WEIGHTS = ""  # checkpoint to start training from or to evaluate; a file or a name of the model zoo
    cfg.MODEL.PIXEL_MEAN = [123.675, 116.28, 103.53]  # RGB, 0..255
    cfg.MODEL.PIXEL_STD = [58.395, 57.12, 57.375]
    cfg.MODEL.SIZE_DIVISIBILITY = 32  # the padded canvas is a multiple of this

    cfg.DATASETS = CN()
    cfg.DATASETS.TRAIN = []  # names of registered data sets
    cfg.DATASETS.RATIOS = []  # how often each is drawn, relative to the others; [] = all equally
    cfg.DATASETS.MOSAIC = []  # INPUT.TRAIN.MOSAIC of each; [] = the same for all
    cfg.DATASETS.COPY_PASTE = []  # INPUT.TRAIN.COPY_PASTE of each; [] = the same for all
    cfg.DATASETS.MOSAIC_ROWS = []  # mosaics of each have 2 rows up to so many; [] = INPUT.TRAIN.MOSAIC_GRIDS for all
    cfg.DATASETS.REPEAT_THRESHOLDS = []  # 0..1 each: names rarer than this share of images repeat; [] or 0 = off
    cfg.DATASETS.SHARE = 1.0  # of the images of each training set, in file order
    cfg.DATASETS.TEST = []
    # Your own files, hierarchical COCO or triples: [{NAME: .., ANNOTATIONS: .., IMAGES: .., any field of DatasetSpec}]
    cfg.DATASETS.CUSTOM = []
    # Modules or files (street.py) that register data sets, imported by commands that are given this configuration
    cfg.DATASETS.IMPORTS = []

    cfg.DATALOADER = CN()
    cfg.DATALOADER.NUM_WORKERS = 2
    cfg.DATALOADER.MAX_CORRUPT = 10  # unreadable images that a run survives; each is named in the log
    cfg.DATALOADER.SAME_DATASET = True  # all processes draw from one data set in a step (even gradients per level)

    cfg.INPUT = CN()
    cfg.INPUT.TRAIN = CN()
    # jitter: large-scale jitter, then a fixed crop | resize: short side, whole image | squash: whole image at SIZE,
    # whatever its shape | letterbox: whole image as large as fits into SIZE
    cfg.INPUT.TRAIN.MODE = "jitter"
    cfg.INPUT.TRAIN.SIZE = [1024, 1024]  # jitter: (height, width) of the crop; squash, letterbox: of the image
    cfg.INPUT.TRAIN.SIZE_FACTORS = []  # a batch has SIZE times one of these, drawn with equal chances
    cfg.INPUT.TRAIN.SCALE = [0.1, 2.0]  # jitter: range of the image's size relative to SIZE
    cfg.INPUT.TRAIN.SHORT_SIDES = [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800]  # resize: one is drawn
    cfg.INPUT.TRAIN.MAX_SIDE = 1333  # resize
    cfg.INPUT.TRAIN.FLIP = 0.5  # chance of a horizontal flip
    cfg.INPUT.TRAIN.MOSAIC = 0.0  # chance that an image comes beside others of its data set, each in a cell of SIZE
    cfg.INPUT.TRAIN.MOSAIC_GRIDS = [2]  # rows and columns of a mosaic's cells; one of these is drawn
    cfg.INPUT.TRAIN.COPY_PASTE = 0.0  # chance that objects of another image of its data set, with parts, lie over one
    cfg.INPUT.TRAIN.PASTE_FACTORS = []  # pasted objects come from an image at SIZE times one of these; [] = at SIZE
    cfg.INPUT.TRAIN.COLOR = 0.0  # strength of brightness, contrast and saturation changes; 0 = off (released)
    cfg.INPUT.TRAIN.MAX_INSTANCES = 500  # of an image; the largest objects and their parts stay
    cfg.INPUT.TRAIN.MIN_AREA = 1.0  # pixels of a mask (or box) below which an instance is dropped after the crop
    cfg.INPUT.TRAIN.EXPRESSIONS = 1  # of an image that come together, for models that answer any expression
    cfg.INPUT.TRAIN.LEVELS = "both"  # for such models: expressions that mean an "object", a "part", or "both"
    cfg.INPUT.TEST = CN()
    cfg.INPUT.TEST.SHORT_SIDE = 800  # pixels
    cfg.INPUT.TEST.MAX_SIDE = 1333

    cfg.SOLVER = CN()
    cfg.SOLVER.MAX_ITER = 90000  # optimiser steps
    cfg.SOLVER.BATCH_SIZE = 32  # images of one optimiser step, over all processes and accumulated passes
    cfg.SOLVER.ACCUMULATE = 1  # passes that are summed into one step
    cfg.SOLVER.BASE_LR = 5e-5
    cfg.SOLVER.WEIGHT_DECAY = 0.05
    cfg.SOLVER.NORM_DECAY = True  # released: norms and biases decay too; False: they do not
    cfg.SOLVER.BACKBONE_MULTIPLIER = 0.1  # of the learning rate
    cfg.SOLVER.TEXT_MULTIPLIER = 0.1
    cfg.SOLVER.CLIP_GRADIENTS = 0.01  # norm over all parameters; 0 = off
    cfg.SOLVER.SCHEDULE = "step"  # step | cosine
    cfg.SOLVER.STEPS = [60000]  # step: iterations at which the rate falls by GAMMA
    cfg.SOLVER.GAMMA = 0.1
    cfg.SOLVER.FINAL_FACTOR = 0.0  # cosine: the last rate, relative to the first
    cfg.SOLVER.WARMUP_ITERS = 100
    cfg.SOLVER.WARMUP_FACTOR = 0.01
    cfg.SOLVER.EMA_DECAY = 0.0  # exponential moving average of the weights, evaluated and saved beside them; 0 = off
    cfg.SOLVER.PRECISION = "no"  # no | bf16 | fp16
    cfg.SOLVER.SHARDED = False  # FSDP instead of DDP
    cfg.SOLVER.MAX_NON_FINITE = 0  # steps with a non-finite loss that are skipped before the run stops
    cfg.SOLVER.CHECKPOINT_PERIOD = 5000  # steps
    cfg.SOLVER.KEEP_CHECKPOINTS = 3  # the last ones; the best stays beside them
    cfg.SOLVER.LOG_PERIOD = 20
    cfg.SOLVER.SEED = 0

    cfg.OUTPUT_DIR = "./output"

    cfg.TEST = CN()
    cfg.TEST.PERIOD = 0  # steps between evaluations while training; 0 = at the end alone
    cfg.TEST.BEST = ""  # metric that picks the best checkpoint, such as "car_parts_val/part/mask/AP50"; "" = first one
    cfg.TEST.IMAGES = 0  # pictures of predictions that each evaluation writes to TensorBoard
    cfg.TEST.SCORE_THRESHOLD = 0.3  # Predictor's default, and of the pictures
    # True: images that cannot be read, or are not of their annotations' size, are left out of evaluation and counted
    cfg.TEST.LENIENT = False  # False: such an image fails the evaluation; a training goes on
    return cfg
