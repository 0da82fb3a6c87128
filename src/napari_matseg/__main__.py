"""The command line as a module, as `torchrun -m napari_matseg` starts it."""

from napari_matseg.cli import main

if __name__ == "__main__":
    main()
