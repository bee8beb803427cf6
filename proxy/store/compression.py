"""Zstandard (RFC 8878), with a dictionary or without.

Frames are as short as they can be: no magic number, no checksum and no dictionary id; what they are is said beside
them. They have their content's size, so that it is known before a byte is decompressed.
"""

from hashlib import blake2b

import zstandard

from proxy.store.keyring import Unopenable

ID_SIZE = 4
_PARAMETERS = zstandard.ZstdCompressionParameters.from_level(
    3, format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=1, write_checksum=0, write_dict_id=0
)


class Unusable(Exception):
    """The bytes are no dictionary."""


class Compressor:
    """Belongs to one thread. *dictionary*: its bytes; empty: none. Raise Unusable."""

    def __init__(self, dictionary: bytes = b"") -> None:
        self.dictionary = dictionary
        self.digest = blake2b(dictionary, digest_size=32, person=b"dictionary").digest() if dictionary else b""
        """Of the dictionary: what was encrypted is read with the very same one, whoever can write to the store."""
        self.id = self.digest[:ID_SIZE]
        """The beginning of it, by which it is found: nobody has to hand out numbers."""
        self.in_clear = False
        """It lay in a store in clear, where whoever writes there may have put it."""
        if not dictionary:
            self._compressor = zstandard.ZstdCompressor(compression_params=_PARAMETERS)
            self._decompressor = zstandard.ZstdDecompressor(format=zstandard.FORMAT_ZSTD1_MAGICLESS)
            return
        try:
            known = zstandard.ZstdCompressionDict(dictionary, dict_type=zstandard.DICT_TYPE_FULLDICT)
            known.precompute_compress(compression_params=_PARAMETERS)
            self._compressor = zstandard.ZstdCompressor(dict_data=known, compression_params=_PARAMETERS)
            self._decompressor = zstandard.ZstdDecompressor(dict_data=known, format=zstandard.FORMAT_ZSTD1_MAGICLESS)
            self._decompressor.decompress(self._compressor.compress(b"its tables are read when it is used"))
        except zstandard.ZstdError as error:
            raise Unusable(str(error)) from None

    def compress(self, data: bytes) -> bytes:
        """A frame."""
        return self._compressor.compress(data)

    def decompress(self, frame: bytes, limit: int) -> bytes:
        """What is in it, at most *limit* bytes: a bomb does not go off. Raise Unopenable."""
        try:
            parameters = zstandard.get_frame_parameters(frame, format=zstandard.FORMAT_ZSTD1_MAGICLESS)
            if parameters.content_size > limit:  # also where it is not said: that is the largest number
                raise Unopenable(f"it would become larger than {limit} bytes")
            return self._decompressor.decompress(frame, max_output_size=limit, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise Unopenable(f"it cannot be decompressed: {error}") from None


PLAIN = Compressor()
"""Without a dictionary."""
