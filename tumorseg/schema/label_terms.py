"""Common labels and their coded terms, as text: `code | meaning | names | further`, a term a line.

Names stand as `common_codes.key_of` writes them or otherwise, apart by commas; sides may be left out where both have them. `further` is
a region or a side, by a name of this table. `~` begins the codes of another terminology than SNOMED CT.

References:
    DICOM PS3.16, which may use these codes free of charge: CID 4 and others (anatomic regions), 7150 to 7199 (what is segmented).
    What it does not list is called as in Wasserthal et al., TotalSegmentator, Radiology: Artificial Intelligence 5 (2023).
"""

CATEGORIES = """
123037004 | Anatomical Structure                | anatomy
49755003  | Morphologically Abnormal Structure  | finding
85756007  | Tissue                              | tissue
91720002  | Body Substance                      | substance
260787004 | Physical object                     | object
"""
SIDES = """
7771000   | Left                                | left
24028007  | Right                               | right
255549009 | Anterior                            | anterior
255551008 | Posterior                           | posterior
"""
ANATOMY = """
10200004  | Liver                               | liver
78961009  | Spleen                              | spleen
64033007  | Kidney                              | kidney
15776009  | Pancreas                            | pancreas
28231008  | Gallbladder                         | gallbladder, gall bladder
69695003  | Stomach                             | stomach
38848004  | Duodenum                            | duodenum
30315005  | Small intestine                     | small intestine, small bowel
14742008  | Large intestine                     | large intestine, large bowel
71854001  | Colon                               | colon
34402009  | Rectum                              | rectum
32713005  | Cecum                               | cecum, caecum
66754008  | Appendix                            | appendix
32849002  | Esophagus                           | esophagus, oesophagus
23451007  | Adrenal gland                       | adrenal gland, adrenal
89837001  | Bladder                             | urinary bladder, bladder
41216001  | Prostate                            | prostate
279706003 | Peripheral zone of the prostate     | peripheral zone, prostate peripheral zone
399384005 | Transition zone of the prostate     | transition zone, transitional zone, prostate transition zone
64739004  | Seminal Vesicle                     | seminal vesicle
35039007  | Uterus                              | uterus
15497006  | Ovary                               | ovary
76784001  | Vagina                              | vagina
40689003  | Testis                              | testis
78067005  | Placenta                            | placenta
39607008  | Lung                                | lung
45653009  | Upper lobe of lung                  | lung upper lobe, upper lung lobe
72481006  | Middle lobe of right lung           | right lung middle lobe, right middle lung lobe, lung middle lobe
90572001  | Lower lobe of lung                  | lung lower lobe, lower lung lobe
44567001  | Trachea                             | trachea
955009    | Bronchus                            | bronchus, bronchi
89187006  | Airway structure                    | airway, airway tree
110726009 | Trachea and bronchus                | lung trachea bronchia, trachea and bronchi
3120008   | Pleura                              | pleura, lung pleural
5798000   | Diaphragm                           | diaphragm
76752008  | Breast                              | breast
69748006  | Thyroid                             | thyroid, thyroid gland
9875009   | Thymus                              | thymus
59441001  | Lymph Node                          | lymph node
80891009  | Heart                               | heart
87878005  | Left ventricle                      | left ventricle, left heart ventricle, lv, lv cavity, left ventricular cavity, lv blood pool
53085002  | Right ventricle                     | right ventricle, right heart ventricle, rv, rv cavity, right ventricular cavity, rv blood pool
82471001  | Left atrium                         | left atrium, left heart atrium
73829009  | Right atrium                        | right atrium, right heart atrium
33626005  | Left auricular appendage            | left atrial appendage
68300000  | Right auricular appendage           | right atrial appendage
49848007  | Left Ventricle Myocardium           | myo, lv myo, lvm, lv myocardium, left ventricular myocardium, left myocardium
74281007  | Myocardium                          | myocardium, heart myocardium
76848001  | Pericardium                         | pericardium
15825003  | Aorta                               | aorta
81040000  | Pulmonary artery                    | pulmonary artery
122972007 | Pulmonary vein                      | pulmonary vein
48345005  | Superior vena cava                  | superior vena cava, svc
64131007  | Inferior vena cava                  | inferior vena cava, ivc, postcava
32764006  | Portal vein                         | portal vein
110765007 | Portal vein and splenic vein        | portal vein and splenic vein
8993003   | Hepatic vein                        | hepatic vein
41801008  | Coronary artery                     | coronary artery, coronary arteries
12691009  | Brachiocephalic trunk               | brachiocephalic trunk
8887007   | Brachiocephalic vein                | brachiocephalic vein
36765005  | Subclavian artery                   | subclavian artery
69105007  | Carotid Artery                      | carotid artery, carotid
32062004  | Common carotid artery               | common carotid artery
86117002  | Internal carotid artery             | internal carotid artery
73634005  | Common iliac artery                 | iliac artery, common iliac artery
46027005  | Common iliac vein                   | iliac vein, iliac vena, common iliac vein
51114001  | Artery                              | artery, arteries
29092000  | Vein                                | vein
59820001  | Blood Vessel                        | vessel, blood vessel
59820001  | Blood Vessel                        | hepatic vessel, liver vessel              | liver
59820001  | Blood Vessel                        | lung vessel, pulmonary vessel             | lung
12738006  | Brain                               | brain
372073000 | Cerebral hemisphere                 | cerebral hemisphere
40146001  | Cerebral cortex                     | cerebral cortex, cerebral gray matter, cerebral grey matter, cortical gray matter
68523003  | Cerebral White Matter               | cerebral white matter
389080008 | White Matter                        | white matter, wm
389081007 | Gray Matter                         | gray matter, grey matter, gm
113305005 | Cerebellum                          | cerebellum
25991003  | Cerebellar Cortex                   | cerebellar cortex, cerebellum cortex
33060004  | Cerebellar White Matter             | cerebellar white matter, cerebellum white matter
119238007 | Brain Stem                          | brainstem, brain stem
61962009  | Midbrain                            | midbrain
42695009  | Thalamus                            | thalamus, thalamus proper
11000004  | Caudate Nucleus                     | caudate, caudate nucleus
89278009  | Putamen                             | putamen
14738005  | Globus Pallidus                     | pallidum, globus pallidus
427667007 | Nucleus Accumbens                   | accumbens, accumbens area, nucleus accumbens
4958002   | Amygdala                            | amygdala
5366008   | Hippocampus                         | hippocampus
5366008   | Hippocampus                         | hippocampus anterior, anterior hippocampus, hippocampus head     | anterior
5366008   | Hippocampus                         | hippocampus posterior, posterior hippocampus                     | posterior
88442005  | Corpus callosum                     | corpus callosum
36169008  | Insula                              | insula
83251001  | Frontal lobe                        | frontal lobe
16630005  | Parietal lobe                       | parietal lobe
78277001  | Temporal lobe                       | temporal lobe
31065004  | Occipital lobe                      | occipital lobe
70007007  | Substantia nigra                    | substantia nigra
35764002  | Brain ventricle                     | brain ventricle, cerebral ventricle
66720007  | Lateral Ventricle                   | lateral ventricle
49841001  | Third ventricle                     | third ventricle, 3rd ventricle
35918002  | Fourth Ventricle                    | fourth ventricle, 4th ventricle
56329008  | Pituitary                           | pituitary, pituitary gland, hypophysis
244453006 | Optic chiasm                        | optic chiasm, chiasm
18234004  | Optic nerve                         | optic nerve
81745001  | Eye                                 | eye
79652003  | Eyeball                             | eyeball, globe
78076003  | Lens                                | lens, eye lens
13561001  | Lacrimal gland                      | lacrimal gland
45289007  | Parotid gland                       | parotid gland, parotid
54019009  | Submandibular gland                 | submandibular gland, submandibular
91609006  | Mandible                            | mandible
70925003  | Maxilla                             | maxilla
15924003  | Maxillary sinus                     | maxillary sinus
74262004  | Oral cavity                         | oral cavity
21974007  | Tongue                              | tongue
54066008  | Pharynx                             | pharynx
4596009   | Larynx                              | larynx
38199008  | Tooth                               | tooth, teeth
89546000  | Skull                               | skull
89545001  | Face                                | face
2748008   | Spinal cord                         | spinal cord, myelon
51282000  | Vertebra                            | vertebra, vertebrae
3572006   | Vertebral body                      | vertebral body, vertebrae body
54735007  | Sacrum                              | sacrum
65985001  | S1 vertebra                         | vertebrae s1, vertebra s1
113197003 | Rib                                 | rib
56873002  | Sternum                             | sternum
51299004  | Clavicle                            | clavicle, clavicula
79601000  | Scapula                             | scapula
85050009  | Humerus                             | humerus
62413002  | Radius                              | radius
23416004  | Ulna                                | ulna
29836001  | Hip                                 | hip
71341001  | Femur                               | femur
2812003   | Femoral head                        | femoral head, femur head
64234005  | Patella                             | patella
12611008  | Tibia                               | tibia
87342007  | Fibula                              | fibula
74135004  | Meniscus                            | meniscus
50016007  | Costal Cartilage                    | costal cartilage
244849004 | Deep muscle of back                 | autochthon
206007    | Structure of gluteus maximus muscle | gluteus maximus
78333006  | Gluteus medius muscle               | gluteus medius
75297007  | Gluteus minimus muscle              | gluteus minimus
68455001  | Iliopsoas muscle                    | iliopsoas
127954009 | Skeletal muscle                     | skeletal muscle
22943007  | Trunk                               | trunk, torso
39937001  | Skin                                | skin
272673000 | Bone                                | bone
"""
TISSUES = """
71616004  | Muscle                              | muscle
55603005  | Fat                                 | fat, adipose tissue
55603005  | Fat                                 | torso fat, body fat                       | trunk
67769002  | Subcutaneous fatty tissue           | subcutaneous fat, subcutaneous adipose tissue
309312004 | Cartilage                           | cartilage
"""
SUBSTANCES = """
65216001  | Cerebrospinal Fluid                 | csf, cerebrospinal fluid
"""
OBJECTS = """
40388003  | Implant                             | implant
"""
FINDINGS = """
108369006 | Neoplasm                            | neoplasm, tumor, tumour, cancer, carcinoma, gtv
372087000 | Neoplasm, Primary                   | primary tumor, primary tumour, gtvp, gtv p, gtvt, gtv t
14799000  | Neoplasm, Secondary                 | metastasis, metastases, mets
108369006 | Neoplasm                            | glioma, brain tumor, brain tumour                              | brain
14799000  | Neoplasm, Secondary                 | gtvn, gtv n, lymph node metastasis, nodal metastasis          | lymph node
108369006 | Neoplasm                            | whole tumor, whole tumour, tumor core, tumour core
6574001   | Necrosis                            | necrosis
6574001   | Necrosis                            | necrotic core, necrotic tumor core, necrotic tumour core, ncr
79654002  | Edema                               | edema, oedema
79654002  | Edema                               | peritumoral edema, peritumoural oedema, snfh
~NCIt C113842 | Enhancing Lesion                | enhancing lesion
~NCIt C113842 | Enhancing Lesion                | enhancing tumor, enhancing tumour, gd enhancing tumor
~NCIt C81175  | Non-Enhancing Lesion            | non enhancing lesion, nonenhancing lesion
~NCIt C81175  | Non-Enhancing Lesion            | non enhancing tumor, non enhancing tumour, non enhancing tumor core
52988006  | Lesion                              | lesion
4147007   | Mass                                | mass
27925004  | Nodule                              | nodule
367643001 | Cyst                                | cyst
44132006  | Abscess                             | abscess
35566002  | Hematoma                            | hematoma, haematoma
50960005  | Hemorrhage                          | hemorrhage, haemorrhage, bleeding
50960005  | Hemorrhage                          | intracerebral hemorrhage, intracranial hemorrhage             | brain
396339007 | Thrombus                            | thrombus
55584005  | Embolus                             | embolus, embolism
85659009  | Aneurysm                            | aneurysm
1522000   | Plaque                              | plaque
60046008  | Pleural effusion                    | pleural effusion
373945007 | Pericardial effusion                | pericardial effusion
36118008  | Pneumothorax                        | pneumothorax
47351003  | Infiltrate                          | infiltrate
47351003  | Infiltrate                          | covid infiltrate, lung covid infiltrate                       | lung
"""
VERTEBRAE = """
C 14806007 39976000 113205007 5329002 36978003 36054005 87391001
T 64864005 53733008 1626008 73071006 56401006 45296009 62487009 11068009 82687006 7610001 12989004 23215003
L 66794005 14293000 36470004 11994002 49668003
"""
"""From the first on, of the neck, the chest and the loin."""
RIBS = """
48535007 First, 78247007 Second, 25888004 Third, 25523003 Fourth, 15339008 Fifth, 59558009 Sixth, 24915002 Seventh, 5953002 Eighth,
22565002 Ninth, 77644006 Tenth, 58830002 Eleventh, 43993008 Twelfth
"""
