"""Generated images: a generator's labelled sets, what they are worth, and ways through its latent space."""

from rag_lib.synthetic.generate import GeneratedDataset as GeneratedDataset
from rag_lib.synthetic.generate import attention_maps as attention_maps
from rag_lib.synthetic.generate import generate as generate
from rag_lib.synthetic.generate import generate_some as generate_some
from rag_lib.synthetic.generate import load_generator as load_generator
from rag_lib.synthetic.generate import sample as sample
from rag_lib.synthetic.generate import to_uint8 as to_uint8
