"""How the model `radiograph_view` was made: what does an image show, when its DICOM tags cannot be trusted?"""
