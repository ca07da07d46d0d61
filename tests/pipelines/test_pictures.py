"""Pictures from files lie as every viewer shows them."""

from PIL import ExifTags, Image

from limner.pipelines.pictures import open_picture


def test_a_sideways_photo_is_turned(tmp_path):
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    picture = Image.new("RGB", (40, 20), "red")
    picture.paste("blue", (20, 0, 40, 20))
    picture.save(tmp_path / "a.png", exif=turned)
    image = open_picture(tmp_path / "a.png")
    assert (image.mode, image.size) == ("RGBA", (20, 40))
    assert image.getpixel((10, 5)) == (255, 0, 0, 255)
    assert image.getpixel((10, 35)) == (0, 0, 255, 255)
