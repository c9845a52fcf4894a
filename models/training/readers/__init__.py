"""Where training documents come from: shards of real data, or the synthetic world.

Each reader is a function of a number: ``reader(start)`` gives the documents from number ``start`` on, without end, and
the same number always gives the same document. So a run resumes exactly from a counter alone, and processes share the
work by taking different numbers. Going to a far number is cheap, since nothing before it is read but the headers of
shards. A document of files holds its text and says where its pictures are: whoever only looks at its length leaves them
on the disk.
"""

from models.training.readers.layouts import LAYOUTS
from models.training.readers.reader import Documents, Reader, Shard
from models.training.readers.shards import read_json, read_webdataset
from models.training.readers.world import WorldReader

__all__ = ["LAYOUTS", "Documents", "Reader", "Shard", "WorldReader", "read_json", "read_webdataset"]
